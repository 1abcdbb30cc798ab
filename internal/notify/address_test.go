package notify

import (
	"strings"
	"testing"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"

	"github.com/kured-host/kured/internal/status"
)

// corpus has an address of each service, with its secrets marked by "5ecret".
// SERVER is where a server of the user's own would be.
var corpus = map[string]string{
	"bark":       "bark://:5ecretKey1@SERVER/?scheme=http",
	"discord":    "discord://5ecretToken_2-abc@5ecretId3",
	"generic":    "generic+http://5ecretUser4:5ecret%40Pass5@SERVER/5ecretPath6?token=5ecret%2FValue7&@Authorization=Bearer+5ecretHeader8&template=json",
	"gotify":     "gotify://SERVER/Aaa5ecret9.cccc?disabletls=yes",
	"googlechat": "googlechat://chat.googleapis.com/v1/spaces/5ecretSpace/messages?key=5ecretBar&token=5ecretBaz",
	"hangouts":   "hangouts://chat.googleapis.com/v1/spaces/5ecretSpace/messages?key=5ecretBar&token=5ecretBaz",
	"ifttt":      "ifttt://5ecretkey10?events=event",
	"join":       "join://:5ecretApi11@join/?devices=5ecretDevice12",
	"lark":       "lark://open.larksuite.com/5ecretToken13?secret=5ecretSign14",
	"logger":     "logger://",
	"matrix":     "matrix://5ecretUser15:5ecretPass16@SERVER?disableTLS=yes",
	"mattermost": "mattermost://user@SERVER/5ecrettoken17?disabletls=yes",
	"notifiarr":  "notifiarr://5ecretkey18?channel=123456789012345678",
	"ntfy":       "ntfy://5ecretUser19:5ecretPass20@SERVER/5ecretTopic21?scheme=http",
	"opsgenie":   "opsgenie://SERVER/5ecret-eb24-faa2",
	"pagerduty":  "pagerduty://SERVER/5ec2e7592faa24ba2a5511afdf565c88",
	"pushbullet": "pushbullet://5ecrettokentokentokentokentokentok/5ecretdevice22",
	"pushover":   "pushover://:5ecretToken23@5ecretUser24/?devices=device",
	"rocketchat": "rocketchat://SERVER/5ecretToken25/5ecretToken26/channel",
	"signal":     "signal://5ecretUser27:5ecretPass28@SERVER/+15550000001/+15550000002?disabletls=yes",
	"slack":      "slack://hook:T5ECRETAAA-B5ECRETBBB-5ecretcccccccccccccccccc@webhook",
	"smtp":       "smtp://5ecretUser29:5ecretPass30@SERVER/?fromAddress=from@host.tld&toAddresses=to@host.tld&auth=plain",
	"teams":      "teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/5ecret_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05?host=test.webhook.office.com",
	"telegram":   "telegram://110201543:5ecretTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?channels=channel",
	"wecom":      "wecom://693a5ec6-7aoc-4bc4-97a0-5ecretfa5aaa",
	"zulip":      "zulip://mail:5ecretKey31@SERVER/?stream=foo&topic=bar",
}

func TestEveryServiceOfShoutrrrIsTaken(t *testing.T) {
	for _, name := range (&router.ServiceRouter{}).ListServices() {
		address, ok := corpus[name]
		if !ok {
			t.Errorf("%s:// is not in the corpus", name)
			continue
		}
		n, err := New([]Target{{URL: strings.ReplaceAll(address, "SERVER", "ops.example.com:8443")}}, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := "1 (" + name + ")"; n.targets[0].name != want {
			t.Errorf("name %q, want %q", n.targets[0].name, want)
		}
	}
	if len(corpus) != len(services) {
		t.Errorf("corpus has %d addresses for %d services", len(corpus), len(services))
	}
}

func TestTranslated(t *testing.T) {
	const hook = "https://hooks.slack.com/services/T01234567/B01234567/abcdefghijABCDEFGHIJ0123"
	const slack = "slack://hook:T01234567-B01234567-abcdefghijABCDEFGHIJ0123@webhook"
	for given, want := range map[string]string{
		hook:                   slack,
		hook + "/":             slack,
		` "` + hook + "\"\n":   slack,
		hook + "?username=ops": slack + "?username=ops",
		slack:                  slack,
		"'logger://'":          "logger://",
		"teams+https://acme.webhook.office.com/webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05": "teams+https://acme.webhook.office.com/webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij_gAljSoUQHvZoZYzlpAoAXExyOl26dlf1xHEx05",
		"generic+https://example.com/hook?template=json": "generic+https://example.com/hook?template=json",
	} {
		if got, err := checked(given); got != want || err != nil {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", given, got, err, want)
		}
	}
}

func TestRefusedTargets(t *testing.T) {
	for _, c := range []struct {
		target Target
		want   []string // parts of the error
	}{
		{Target{}, []string{"notify, target 1: either a URL or a file"}},
		{Target{URL: "logger://", URLFile: "/etc/5ecret"}, []string{"either a URL or a file"}},
		{Target{URLFile: "url"}, []string{"not an absolute path"}},
		{Target{URL: "xoxb-5ecret-1234"}, []string{"does not begin with a service", "slack://", "smtp://"}},
		{Target{URL: "5ecret:1234@host"}, []string{"cannot be parsed"}},
		{Target{URL: "tok5ecret:1234@host"}, []string{"does not begin with a service"}},
		{Target{URL: "slack://5ecret:%zz@webhook"}, []string{"cannot be parsed", "%xx"}},
		{Target{URL: "smtp://user:5ecret#1@mail.example.com/"}, []string{"cannot be parsed"}},
		{Target{URL: "slack://5ecret"}, []string{"slack: invalid slack token format"}},
		{Target{URL: "ntfy+https://5ecret@example.com/topic"}, []string{"ntfy: its address has no other scheme"}},
		{Target{URL: "matrix://:a&b@host?room=1&5ecret=2"}, []string{"matrix: setting query parameter"}},
		{Target{URL: "matrix://:token@host?rooms=,5ecret"}, []string{"shoutrrr panics"}},
		{Target{URL: "https://hooks.slack.com/workflows/5ecret/A"}, []string{"of Slack only webhooks"}},
		{Target{URL: "https://discord.com/api/webhooks/12/5ecret"}, []string{"discord://TOKEN@ID"}},
		{Target{URL: "https://acme.webhook.office.com/webhookb2/5ecret"}, []string{"teams+"}},
		{Target{URL: "https://ops.example.com/5ecret"}, []string{"generic+"}},
		{Target{URL: "logger://" + strings.Repeat("5ecret", maxAddress)}, []string{"longer than"}},
		{Target{URL: "logger://", Events: []status.Event{"party"}}, []string{`unknown event "party"`, "waiting"}},
		{
			Target{URL: "slack://5ecret", Templates: map[status.Event]string{"party": "", "drain": "{{.Nodes}}", "held": "{{"}},
			[]string{"invalid slack token", `template: unknown event "party"`, "template of the event drain:", "Nodes", "template of the event held:"},
		},
	} {
		_, err := New([]Target{c.target}, nil)
		if err == nil {
			t.Errorf("%+v is taken", c.target)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v:\ngot  %v\nwant %s", c.target, err, want)
			}
		}
		if strings.Contains(err.Error(), "5ecret") {
			t.Errorf("a secret in: %v", err)
		}
	}
	_, err := New([]Target{{URL: "logger://"}, {}, {URL: "foo://"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "target 2") || !strings.Contains(err.Error(), "target 3") || strings.Contains(err.Error(), "target 1") {
		t.Errorf("not every problem is told: %v", err)
	}
}

// Whatever somebody writes as a URL: nothing panics, and no error shows what
// may be a secret.
func FuzzAddress(f *testing.F) {
	for _, address := range corpus {
		before, after, _ := strings.Cut(address, "5ecret")
		f.Add(before, after)
	}
	f.Add("https://hooks.slack.com/services/", "/B/C")
	f.Add("generic+https://a b/%", "\"\n")
	f.Add("", "://x")
	const marker = "kUr3dMaRk3r"
	f.Fuzz(func(t *testing.T, before, after string) {
		_, err := New([]Target{{URL: before + marker + after}}, nil)
		if err != nil && strings.Contains(lower(err.Error()), lower(marker)) {
			t.Errorf("%q: %v", before+marker+after, err)
		}
	})
}
