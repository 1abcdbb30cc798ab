package reference

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kured-host/kured/internal/config"
)

// durationPattern is what time.ParseDuration reads.
const durationPattern = `^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`

// texts are the texts that keys which are numbers, too, may have.
func texts() map[string]string {
	return map[string]string{
		"lock.max_concurrent": `^([1-9][0-9]?|100)%$`,
		"lock.min_ready":      `^(quorum|(0|[1-9][0-9]?|100)%)$`,
	}
}

// ranges are the least and the most of whole numbers; most 0: no limit.
func ranges() map[string][2]int {
	return map[string][2]int{
		"lock.max_concurrent": {1, 9999},
		"lock.min_ready":      {0, 9999},
		"lock.waiting_room":   {1, 16},
		"lock.priority":       {-9999, 9999},
		"reboot.max_per_day":  {1, 0},
	}
}

// schema is a JSON schema, or what a property has of one, in a fixed order.
type schema struct {
	Schema      string     `json:"$schema,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        any        `json:"type"`
	Enum        []string   `json:"enum,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Minimum     *int       `json:"minimum,omitempty"`
	Maximum     *int       `json:"maximum,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	MinItems    int        `json:"minItems,omitempty"`
	Properties  properties `json:"properties,omitempty"`
	Additional  any        `json:"additionalProperties,omitempty"` // false, or a schema
	Required    []string   `json:"required,omitempty"`
	Default     any        `json:"default,omitempty"`
}

type property struct {
	name   string
	schema *schema
}

// properties keep the order of the struct.
type properties []property

// MarshalJSON implements json.Marshaler.
func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, one := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(one.name)
		if err != nil {
			return nil, err
		}
		value, err := marshal(one.schema)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal leaves "<" as it is.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(b.Bytes()), err
}

// Schema is the JSON schema (draft 2020-12) of kured.toml, read as JSON.
func Schema(tables []Table) ([]byte, error) {
	whole := &schema{
		Schema:      "https://json-schema.org/draft/2020-12/schema",
		Title:       "kured.toml",
		Description: "The configuration of kured, the Kubernetes Reboot Daemon of the host; see kured.toml(5).",
		Type:        "object",
		Additional:  false,
	}
	for _, table := range tables {
		object := &schema{Type: "object", Additional: false}
		for _, group := range table.Groups {
			for _, key := range group.Keys {
				one := ofKey(table.Name+"."+key.Name, key)
				one.Description = strings.Join(group.Text, " ")
				object.Properties = append(object.Properties, property{key.Name, one})
				// Of url and url_file only one is needed.
				if key.Example != "" && table.Name != "notify" {
					object.Required = append(object.Required, key.Name)
				}
			}
		}
		text := strings.Join(table.Text, " ")
		if table.List {
			object = &schema{Type: "array", Items: object}
		}
		object.Description = text
		whole.Properties = append(whole.Properties, property{table.Name, object})
	}
	compact, err := marshal(whole)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// ofKey is the schema of one key.
func ofKey(name string, key Key) *schema {
	s := &schema{}
	if r, ok := ranges()[name]; ok {
		s.Minimum = &r[0]
		if r[1] != 0 {
			s.Maximum = &r[1]
		}
	}
	if key.Example == "" {
		s.Default = plain(key.Default)
	}
	switch key.Type {
	case reflect.TypeFor[config.Duration]():
		s.Type, s.Pattern = "string", durationPattern
		return s
	case reflect.TypeFor[intstr.IntOrString]():
		s.Type, s.Pattern = []string{"integer", "string"}, texts()[name]
		return s
	}
	switch key.Type.Kind() {
	case reflect.Bool:
		s.Type = "boolean"
	case reflect.Int:
		s.Type = "integer"
	case reflect.Slice:
		s.Type, s.Items = "array", &schema{Type: "string", Enum: key.Enum}
		if key.Example != "" || name == "sentinel.paths" { // or nothing could ever be asked
			s.MinItems = 1
		}
	case reflect.Map:
		s.Type, s.Additional = "object", &schema{Type: "string"}
	default:
		s.Type, s.Enum = "string", key.Enum
	}
	return s
}

// plain is a default as JSON has it.
func plain(value reflect.Value) any {
	switch v := value.Interface().(type) {
	case config.Duration:
		return v.String()
	case []string:
		if v == nil {
			return []string{}
		}
		return v
	case map[string]string:
		return map[string]string{}
	default:
		return v // IntOrString marshals itself
	}
}
