package llama

import (
	"errors"
	"fmt"
	"strings"

	yzma "github.com/hybridgroup/yzma/pkg/llama"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // system, user or assistant; templates may know others
	Content string `json:"content"`
}

// ErrNoTemplate means that a conversation cannot be turned into a prompt.
var ErrNoTemplate = errors.New("no usable chat template")

// ChatTemplate returns the template in the model's metadata, or "".
func (m *Model) ChatTemplate() string { return yzma.ModelChatTemplate(m.handle, "") }

// ChatPrompt renders a conversation with llama.cpp's own renderer, which knows
// the common templates by their text or by name ("chatml", "llama3", …), and
// opens the assistant's turn. An empty template means the model's own. Errors
// wrap [ErrNoTemplate] when there is none or the renderer does not know it.
func (m *Model) ChatPrompt(template string, messages []Message) (string, error) {
	if len(messages) == 0 {
		return "", errors.New("a conversation without messages")
	}
	if template == "" {
		if template = m.ChatTemplate(); template == "" {
			return "", fmt.Errorf("%w: %s has none; name one with --chat-template, such as chatml", ErrNoTemplate, m.path)
		}
	}
	if strings.IndexByte(template, 0) >= 0 {
		return "", fmt.Errorf("%w: it holds a zero byte", ErrNoTemplate)
	}
	chat := make([]yzma.ChatMessage, len(messages))
	bytes := 0
	for i, msg := range messages {
		if strings.IndexByte(msg.Role, 0) >= 0 || strings.IndexByte(msg.Content, 0) >= 0 {
			return "", fmt.Errorf("message %d holds a zero byte; llama.cpp takes none", i)
		}
		chat[i] = yzma.NewChatMessage(msg.Role, msg.Content)
		bytes += len(msg.Role) + len(msg.Content)
	}
	buf := make([]byte, 2*bytes+1024)
	n := yzma.ChatApplyTemplate(template, chat, true, buf)
	if int(n) > len(buf) {
		buf = make([]byte, n)
		n = yzma.ChatApplyTemplate(template, chat, true, buf)
	}
	if n < 0 || int(n) > len(buf) {
		return "", fmt.Errorf("%w: llama.cpp's renderer does not know the one of %s; name another with --chat-template, such as chatml", ErrNoTemplate, m.path)
	}
	return string(buf[:n]), nil
}
