package notify

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
)

// checked returns an address in the form that shoutrrr takes, or why it does
// not, without secrets. It connects to nothing.
func checked(given string) (string, error) {
	address, err := translated(given)
	if err != nil {
		return "", err
	}
	if err := check(address); err != nil {
		return "", errors.New(secretsOf(address).hide(err.Error()))
	}
	return address, nil
}

func check(address string) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("shoutrrr panics: %v", fault)
		}
	}()
	if service(address) != matrix.Scheme {
		_, err = connect(address, nil)
		return err
	}
	// Matrix would log in already.
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if err := (&matrix.Config{}).SetURL(u); err != nil {
		return fmt.Errorf("matrix: %w", err)
	}
	return nil
}

// webhook is an address as a service shows it, which shoutrrr has in another form.
type webhook struct {
	host *regexp.Regexp
	hint string
}

// The expressions are made when the first address is checked: most daemons have none.
var (
	webhooks = sync.OnceValue(func() []webhook {
		return []webhook{
			{regexp.MustCompile(`^hooks\.slack(-gov)?\.com$`), "of Slack only webhooks such as https://hooks.slack.com/services/T…/B…/… can be used, or slack://TOKEN@CHANNEL"},
			{regexp.MustCompile(`^(.*\.)?discord(app)?\.com$`), "write https://discord.com/api/webhooks/ID/TOKEN as discord://TOKEN@ID"},
			{regexp.MustCompile(`\.webhook\.office\.com$`), "write teams+ in front of it"},
			{regexp.MustCompile(`^api\.telegram\.org$`), "write telegram://TOKEN@telegram?chats=CHAT"},
			{regexp.MustCompile(`^chat\.googleapis\.com$`), "write googlechat:// instead of https://"},
			{regexp.MustCompile(``), "for a webhook that takes any text write generic+ in front of it, and ?template=json behind it if it takes JSON; other services have a scheme of their own"},
		}
	})

	// slackHook is the path of a Slack webhook.
	slackHook = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^/services/([A-Za-z0-9]+)/([A-Za-z0-9]+)/([A-Za-z0-9]+)/?$`)
	})
)

// translated turns what people paste into what shoutrrr takes, as the
// DaemonSet kured did with --notify-url and --slack-hook-url, or gives a hint.
func translated(given string) (string, error) {
	address := strings.Trim(strings.TrimSpace(given), `"'`)
	if len(address) > maxAddress {
		return "", fmt.Errorf("notification URL: longer than %d bytes", maxAddress)
	}
	u, err := url.Parse(address)
	if err != nil {
		// The error of url.Parse quotes what it does not understand.
		return "", errors.New("notification URL: cannot be parsed; in user, password and path write special characters as %xx")
	}
	switch {
	case u.Scheme == "https" || u.Scheme == "http":
		host := strings.ToLower(u.Hostname())
		if hook := slackHook().FindStringSubmatch(u.Path); hook != nil && host == "hooks.slack.com" {
			slack := url.URL{Scheme: "slack", User: url.UserPassword("hook", strings.Join(hook[1:], "-")), Host: "webhook", RawQuery: u.RawQuery}
			return slack.String(), nil
		}
		for _, w := range webhooks() {
			if w.host.MatchString(host) {
				return "", fmt.Errorf("notification URL: %s (see https://shoutrrr.nickfedor.com)", w.hint)
			}
		}
	case service(address) == "":
		return "", fmt.Errorf("notification URL: does not begin with a service that shoutrrr knows: %s://", strings.Join(schemes(), "://, "))
	}
	return address, nil
}
