package alert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kured-host/kured/internal/status"
)

// creator is the author of our silences.
const creator = "kured"

// Silence hides one node's alerts in an Alertmanager while the node reboots. It
// is kept short and is renewed, so that it ends by itself when nobody expires it.
type Silence struct {
	server   Server
	node     string
	matchers []silenceMatcher // sorted
	lasts    time.Duration
}

// NewSilence makes the silence of the alerts that all of these lists of label
// matchers match, where {node} in a value is the node's name, in regular
// expressions taken literally. It lasts that long when it is not renewed, a
// minute or more.
//
// At least one matcher names the node, and at least one does not match the
// empty value, which is a rule of Alertmanager's.
func NewSilence(server Server, node string, lists []string, lasts time.Duration) (Silence, error) {
	s := Silence{server: server, node: node, lasts: lasts}
	if lasts < time.Minute {
		return Silence{}, fmt.Errorf("a silence of %s: has to last a minute or longer", lasts)
	}
	var named, some bool
	for _, text := range lists {
		list, err := ParseMatchers(text)
		if err != nil {
			return Silence{}, err
		}
		for _, m := range list {
			named = named || strings.Contains(m.value, "{node}") && (m.op == equal || m.op == matchesRegexp)
			if m, err = m.of(node); err != nil {
				return Silence{}, err
			}
			some = some || !m.Matches(nil)
			isEqual := m.op == equal || m.op == matchesRegexp
			s.matchers = append(s.matchers, silenceMatcher{Name: m.name, Value: m.value, IsRegex: m.re != nil, IsEqual: &isEqual})
		}
	}
	switch {
	case !named:
		return Silence{}, errors.New(`no matcher of the silence has {node} in its value, such as instance=~"{node}(:[0-9]+)?"`)
	case !some:
		return Silence{}, errors.New("every matcher of the silence also matches alerts that do not have its label")
	}
	slices.SortFunc(s.matchers, silenceMatcher.compare)
	return s, nil
}

// of is the matcher with the node's name in it.
func (m Matcher) of(node string) (Matcher, error) {
	if m.re != nil {
		node = quoteMeta(node)
	}
	return newMatcher(m.name, m.op, strings.ReplaceAll(m.value, "{node}", node))
}

// quoteMeta quotes what is special in names of nodes (RFC 1123 subdomains), and
// leaves them readable.
func quoteMeta(node string) string { return strings.ReplaceAll(node, ".", `\.`) }

// Keep makes the silence, or takes over the one that is there, and renews it at
// half of its life until ctx ends; then it is left to lapse, or to Expire. A
// failure is reported each time, and tried again after a tenth of that life.
// reason is told in the silence's comment.
func (s Silence) Keep(ctx context.Context, reason string, report func(error)) {
	for ctx.Err() == nil {
		pause := s.lasts / 2
		if err := s.renew(ctx, reason); err != nil && ctx.Err() == nil {
			report(fmt.Errorf("silence the alerts of this node: %w", err))
			pause = s.lasts / 10
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// Expire ends every silence of this node that kured made, also before a reboot.
func (s Silence) Expire(ctx context.Context) error {
	look := s.server.Alertmanager()
	ours, _, err := s.find(ctx, look)
	if err != nil {
		return fmt.Errorf("find the silences of this node: %w", err)
	}
	for _, found := range ours {
		err := look.ask(ctx, func(ctx context.Context, r *replica) error {
			_, _, err := look.call(ctx, r, http.MethodDelete, "silence/"+url.PathEscape(found.ID), nil, nil)
			return err
		})
		if err != nil {
			return fmt.Errorf("expire the silence %s: %w", status.Clean(found.ID, 40), err)
		}
	}
	return nil
}

// renew makes the silence last from now on, by the server's clock.
func (s Silence) renew(ctx context.Context, reason string) error {
	look := s.server.Alertmanager()
	ours, now, err := s.find(ctx, look)
	if err != nil {
		return err
	}
	wanted := silence{
		Matchers: s.matchers, StartsAt: now, EndsAt: now.Add(s.lasts),
		CreatedBy: creator, Comment: s.comment() + status.Clean(reason, 200),
	}
	if len(ours) > 0 {
		// Alertmanager changes a silence in place as long as matchers and begin stay.
		wanted.ID, wanted.StartsAt = ours[0].ID, ours[0].StartsAt
	}
	return look.ask(ctx, func(ctx context.Context, r *replica) error {
		response, body, err := look.call(ctx, r, http.MethodPost, "silences", nil, wanted)
		if err != nil {
			return err
		}
		var answer struct{ SilenceID string }
		if err := json.Unmarshal(body, &answer); err != nil || answer.SilenceID == "" {
			return notFrom("an Alertmanager", response, "no silence in its answer")
		}
		return nil
	})
}

// comment is how the comment of this node's silences begins.
func (s Silence) comment() string { return "node " + s.node + " reboots: " }

// find returns this node's silences that are active or will be, the one that
// lasts longest first, and the server's time, which may not be ours.
func (s Silence) find(ctx context.Context, look Alertmanager) (ours []silence, now time.Time, err error) {
	err = look.ask(ctx, func(ctx context.Context, r *replica) error {
		response, body, err := look.call(ctx, r, http.MethodGet, "silences", nil, nil)
		if err != nil {
			return err
		}
		all, err := decodeSilences(body)
		if err != nil {
			return notFrom("an Alertmanager", response, err.Error())
		}
		now = timeOf(response)
		ours = slices.DeleteFunc(all, func(found silence) bool { return !s.isOurs(found) })
		slices.SortFunc(ours, func(a, b silence) int { return cmp.Or(b.EndsAt.Compare(a.EndsAt), cmp.Compare(a.ID, b.ID)) })
		return nil
	})
	return ours, now, err
}

// isOurs goes by the matchers too: another cluster that has a node of our name
// may use the same Alertmanager.
func (s Silence) isOurs(found silence) bool {
	if found.Status.State == "expired" || found.CreatedBy != creator || !strings.HasPrefix(found.Comment, s.comment()) {
		return false
	}
	slices.SortFunc(found.Matchers, silenceMatcher.compare)
	return slices.EqualFunc(found.Matchers, s.matchers, func(a, b silenceMatcher) bool { return a.compare(b) == 0 })
}

func (m silenceMatcher) compare(other silenceMatcher) int {
	sign := func(m silenceMatcher) string {
		return fmt.Sprint(m.IsRegex, m.IsEqual == nil || *m.IsEqual)
	}
	return cmp.Or(cmp.Compare(m.Name, other.Name), cmp.Compare(m.Value, other.Value), cmp.Compare(sign(m), sign(other)))
}

// decodeSilences reads gettableSilences, and is sure that these are some.
func decodeSilences(body []byte) ([]silence, error) {
	var answer []silence
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errors.New("no list of silences in its answer")
	}
	for _, s := range answer {
		if s.ID == "" || s.Status == nil {
			return nil, errors.New("a silence without id or status in its answer")
		}
	}
	return answer, nil
}
