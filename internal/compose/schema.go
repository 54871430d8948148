package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// composeSpec is the schema of the compose specification, which ours is added to.
const composeSpec = "https://raw.githubusercontent.com/compose-spec/compose-spec/main/schema/compose-spec.json"

// jsonSchema is the part of JSON Schema that is used here.
type jsonSchema struct {
	Draft       string                 `json:"$schema,omitempty"`
	ID          string                 `json:"$id,omitempty"`
	Title       string                 `json:"title,omitempty"`
	Description string                 `json:"description,omitempty"`
	AllOf       []jsonSchema           `json:"allOf,omitempty"`
	AnyOf       []jsonSchema           `json:"anyOf,omitempty"`
	Ref         string                 `json:"$ref,omitempty"`
	Type        any                    `json:"type,omitempty"`
	Enum        []string               `json:"enum,omitempty"`
	Pattern     string                 `json:"pattern,omitempty"`
	Minimum     *int                   `json:"minimum,omitempty"`
	Maximum     *int                   `json:"maximum,omitempty"`
	MinLength   int                    `json:"minLength,omitempty"`
	Items       *jsonSchema            `json:"items,omitempty"`
	Properties  map[string]jsonSchema  `json:"properties,omitempty"`
	Required    []string               `json:"required,omitempty"`
	MinKeys     int                    `json:"minProperties,omitempty"`
	MaxKeys     int                    `json:"maxProperties,omitempty"`
	Additional  any                    `json:"additionalProperties,omitempty"`
	Examples    []any                  `json:"examples,omitempty"`
	Definitions map[string]*jsonSchema `json:"definitions,omitempty"`
}

// Schema returns the JSON schema of compose files with x-ic-agent, for editors: the compose specification's, by
// reference, and ours. Its first line in a file is
//
//	# yaml-language-server: $schema=/usr/share/ic-agent/x-ic-agent.schema.json
func Schema() []byte {
	project := mappingSchema(extRule{below: projectExt})
	service := mappingSchema(extRule{below: serviceExt})
	s := jsonSchema{
		Draft: "http://json-schema.org/draft-07/schema#",
		Title: "Compose file for ic-agent",
		AllOf: []jsonSchema{{Ref: composeSpec}},
		Type:  "object",
		Properties: map[string]jsonSchema{
			extAgent: {Ref: "#/definitions/project"},
			"services": {Type: "object", Additional: jsonSchema{
				Type: "object", Properties: map[string]jsonSchema{extAgent: {Ref: "#/definitions/service"}},
			}},
		},
		Definitions: map[string]*jsonSchema{"project": &project, "service": &service},
	}

	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(s)
	if err != nil {
		panic(err) // texts, numbers and lists always encode
	}

	return b.Bytes()
}

func mappingSchema(r extRule) jsonSchema {
	s := jsonSchema{
		Description: strings.ReplaceAll(r.says, "`", ""), Type: "object", Properties: map[string]jsonSchema{}, Required: r.need, Additional: false,
	}
	if r.one {
		s.MinKeys, s.MaxKeys = 1, 1
	}

	for _, rule := range r.below {
		s.Properties[rule.name] = rule.schema()
	}

	return s
}

// schema says of one key what the parser accepts. A key without a value is as good as none.
func (r extRule) schema() jsonSchema {
	s := jsonSchema{Description: strings.ReplaceAll(r.says, "`", "")}
	switch r.kind {
	case extText, extCalendar:
		s.Type, s.MinLength = []string{"string", "null"}, 1
	case extWord:
		s.Type, s.Enum = "string", r.words
	case extFlag:
		s.Type = []string{"boolean", "null"}
	case extNumber:
		s.Type, s.Minimum, s.Maximum = []string{"integer", "null"}, &r.least, &r.most
	case extDuration:
		s.Type, s.Pattern, s.MinLength = []string{"string", "null"}, durationPattern, 1
	case extList:
		s.Type, s.Items = "array", &jsonSchema{Type: "string", MinLength: 1, Enum: r.words}
	case extPairs:
		s.Type, s.Additional = "object", jsonSchema{Type: []string{"string", "number", "boolean"}}
	case extMapping:
		m := mappingSchema(r)
		if r.short == "" {
			return m
		}

		plain := ruleOf(r.below, r.short).schema()
		m.Description, plain.Description = "", ""
		s.AnyOf = []jsonSchema{plain, m}
	}

	return s
}

// durationPattern is what parseDuration reads, but for the value's bounds.
const durationPattern = `^([0-9]+w)?([0-9]+d)?([0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns))*$`

func ruleOf(rules []extRule, name string) extRule {
	for _, r := range rules {
		if r.name == name {
			return r
		}
	}

	panic(fmt.Sprintf("x-ic-agent has no key %q", name)) // the rules name only keys they have
}

// ExtensionPage returns the tables of docs/x-ic-agent.md.
func ExtensionPage() string {
	var b strings.Builder
	b.WriteString("## On the project\n\nAt the top of the file.\n\n")
	page(&b, "", projectExt)
	b.WriteString("\n## On a service\n\nBelow the service.\n\n")
	page(&b, "", serviceExt)

	return b.String()
}

func page(b *strings.Builder, above string, rules []extRule) {
	if above == "" {
		b.WriteString("| key | example | |\n|---|---|---|\n")
	}

	for _, r := range rules {
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", above+r.name, r.example, r.says)
		page(b, above+r.name+".", r.below)
	}
}
