package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
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

// Send implements sender: the chats are told one after the other. One that does
// not take the message for good, as where the bot was removed, keeps nobody from
// it; what may pass ends it, as in shoutrrr.
func (b bot) Send(message string, _ *types.Params) error {
	var refused error
	told := 0
	for _, chat := range b.config.Chats {
		forGood, err := b.tell(message, chat)
		switch {
		case err == nil:
			told++
		case !forGood:
			return fmt.Errorf("telegram: %w", err)
		case refused == nil:
			refused = fmt.Errorf("telegram: %w", err)
		}
	}
	if refused != nil && told > 0 {
		return someTold{refused}
	}
	return refused
}

// tell sends to one chat. An error is for good where Telegram says so: there is
// no such chat, or the bot may not write there.
func (b bot) tell(message, chat string) (forGood bool, err error) {
	var answer struct {
		OK          bool   `json:"ok"`
		Code        int    `json:"error_code"`
		Description string `json:"description"`
	}
	err = jsonclient.Post("https://api.telegram.org/bot"+b.config.Token+"/sendMessage", b.payload(message, chat), &answer)
	switch {
	case err == nil && answer.OK:
		return false, nil
	case err == nil:
		err = errors.New("refused: " + answer.Description)
	case json.Unmarshal([]byte(jsonclient.ErrorBody(err)), &answer) == nil && answer.Description != "":
		err = fmt.Errorf("%w: %s", err, answer.Description) // the error has the status alone
	}
	return answer.Code == http.StatusBadRequest || answer.Code == http.StatusForbidden, err
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
