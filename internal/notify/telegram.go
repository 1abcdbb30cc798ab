package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"strconv"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/nicholas-fedor/shoutrrr/pkg/util/jsonclient"
)

// bot sends to Telegram what shoutrrr's service sends. That one (v0.13.2)
// takes no answer, and every answer that is not JSON, for a success, so that
// nothing would ever be tried again.
type bot struct{ config *telegram.Config }

// Send implements sender. Chats are told one after the other; when one fails
// those after it are not told, as in shoutrrr.
func (b bot) Send(message string, _ *types.Params) error {
	for _, chat := range b.config.Chats {
		var answer struct {
			OK          bool   `json:"ok"`
			Description string `json:"description"`
		}
		err := jsonclient.Post("https://api.telegram.org/bot"+b.config.Token+"/sendMessage", b.payload(message, chat), &answer)
		if err != nil {
			// The reason is in the body; the error has the status alone.
			if json.Unmarshal([]byte(jsonclient.ErrorBody(err)), &answer) == nil && answer.Description != "" {
				err = fmt.Errorf("%w: %s", err, answer.Description)
			}
			return fmt.Errorf("telegram: %w", err)
		}
		if !answer.OK {
			return errors.New("telegram: refused: " + answer.Description)
		}
	}
	return nil
}

// payload is the parameter of sendMessage, https://core.telegram.org/bots/api#sendmessage.
func (b bot) payload(message, chat string) telegram.SendMessagePayload {
	id, thread, _ := strings.Cut(chat, ":")
	p := telegram.SendMessagePayload{Text: message, ID: id, DisableNotification: !b.config.Notification, DisablePreview: !b.config.Preview}
	if number, err := strconv.Atoi(thread); err == nil {
		p.MessageThreadID = &number
	}
	mode := b.config.ParseMode
	if mode == telegram.ParseModes.None && b.config.Title != "" {
		// A title needs HTML, which the message then is not yet.
		mode, message = telegram.ParseModes.HTML, html.EscapeString(message)
	}
	if mode != telegram.ParseModes.None {
		p.ParseMode = mode.String()
	}
	if mode == telegram.ParseModes.HTML && b.config.Title != "" {
		p.Text = "<b>" + html.EscapeString(b.config.Title) + "</b>\n" + message
	}
	return p
}
