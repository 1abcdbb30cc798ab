package notify

import (
	"net/url"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/discord"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/googlechat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/lark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/matrix"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/rocketchat"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/signal"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/slack"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/teams"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/wecom"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/zulip"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/opsgenie"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/incident/pagerduty"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/bark"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ifttt"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/join"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushbullet"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/pushover"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/notifiarr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// services are those of shoutrrr's router. The router itself would make the
// program 20 MB larger: its services generic, smtp and logger execute
// text/template, which calls methods by name, and then the linker has to keep
// every exported method of every type. Those three are ours: hook.go, mail.go
// and journal; shoutrrr reads their addresses.
var services = []struct {
	name string
	make func() types.Service // nil: ours
}{
	{"bark", func() types.Service { return &bark.Service{} }},
	{"discord", func() types.Service { return &discord.Service{} }},
	{"generic", nil},
	{"googlechat", func() types.Service { return &googlechat.Service{} }},
	{"gotify", func() types.Service { return &gotify.Service{} }},
	{"hangouts", func() types.Service { return &googlechat.Service{} }},
	{"ifttt", func() types.Service { return &ifttt.Service{} }},
	{"join", func() types.Service { return &join.Service{} }},
	{"lark", func() types.Service { return &lark.Service{} }},
	{"logger", nil},
	{"matrix", func() types.Service { return &matrix.Service{} }},
	{"mattermost", func() types.Service { return &mattermost.Service{} }},
	{"notifiarr", func() types.Service { return &notifiarr.Service{} }},
	{"ntfy", func() types.Service { return &ntfy.Service{} }},
	{"opsgenie", func() types.Service { return &opsgenie.Service{} }},
	{"pagerduty", func() types.Service { return &pagerduty.Service{} }},
	{"pushbullet", func() types.Service { return &pushbullet.Service{} }},
	{"pushover", func() types.Service { return &pushover.Service{} }},
	{"rocketchat", func() types.Service { return &rocketchat.Service{} }},
	{"signal", func() types.Service { return &signal.Service{} }},
	{"slack", func() types.Service { return &slack.Service{} }},
	{"smtp", nil},
	{"teams", func() types.Service { return &teams.Service{} }},
	{"telegram", func() types.Service { return &telegram.Service{} }},
	{"wecom", func() types.Service { return &wecom.Service{} }},
	{"zulip", func() types.Service { return &zulip.Service{} }},
}

// service is the service that an address is for, "" if there is none. Only
// known words are returned: what stands there may be a secret that is in the
// wrong place.
func service(address string) string {
	scheme, _, _ := strings.Cut(address, ":")
	name, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	if slices.Contains(schemes(), name) {
		return name
	}
	return ""
}

// schemes lists the names of the services, sorted.
func schemes() []string {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.name
	}
	return names
}

// located makes the service of an address, ready to send. Some talk to their
// server here already.
func located(name string, u *url.URL) (types.Service, error) {
	i := slices.Index(schemes(), name)
	s := services[i].make()
	if u.Scheme != name { // teams+https://
		custom, ok := s.(types.CustomURLService)
		if !ok {
			return nil, errNoCustom
		}
		var err error
		if u, err = custom.GetConfigURLFromCustom(u); err != nil {
			return nil, err
		}
	}
	return s, s.Initialize(u, nil)
}
