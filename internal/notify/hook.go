package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/specialized/generic"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// hookLimit bounds a request to a webhook.
const hookLimit = 30 * time.Second

// hook is a webhook of no known service, generic+https://; see services.
type hook struct {
	config  *generic.Config
	headers map[string]string // "@Name=value" in the address
	fields  map[string]string // "$name=value": of the JSON object
}

func newHook(u *url.URL) (hook, error) {
	var config *generic.Config
	var err error
	if _, scheme, custom := strings.Cut(u.Scheme, "+"); custom {
		target := *u
		target.Scheme = scheme
		config, _, err = generic.ConfigFromWebhookURL(target)
	} else {
		config, _ = generic.DefaultConfig()
		err = config.SetURL(u)
	}
	if err != nil {
		return hook{}, err
	}
	h := hook{config: config, headers: map[string]string{}, fields: map[string]string{}}
	switch strings.ToLower(config.Template) {
	case "", "json":
	default:
		return hook{}, fmt.Errorf("template %q: there is only json", config.Template)
	}
	// The configuration shows them only as parts of its address.
	for key, values := range config.GetURL().Query() {
		switch {
		case len(key) < 2:
		case key[0] == generic.HeaderPrefixChar:
			h.headers[key[1:]] = values[0]
		case key[0] == generic.ExtraPrefixChar:
			h.fields[key[1:]] = values[0]
		}
	}
	if config.Title != "" {
		h.fields[config.TitleKey] = config.Title
	}
	return h, nil
}

// Send implements sender: the message as text, or in a JSON object.
func (h hook) Send(message string, _ *types.Params) error {
	body, kind := []byte(message), "text/plain"
	if h.config.Template != "" {
		fields := map[string]string{}
		for key, value := range h.fields {
			fields[key] = value
		}
		fields[h.config.MessageKey] = message
		var err error
		if body, err = json.Marshal(fields); err != nil {
			return fmt.Errorf("encode message: %w", err)
		}
		kind = h.config.ContentType
	}
	request, err := http.NewRequest(h.config.RequestMethod, h.config.WebhookURL().String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Accept", kind)
	for key, value := range h.headers {
		request.Header.Set(key, value)
	}
	client := http.Client{Timeout: hookLimit}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	switch {
	case response.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("webhook: %s: %s", response.Status, answer)
	case err != nil:
		return fmt.Errorf("webhook: read answer: %w", err)
	}
	return nil
}
