package config

import (
	"fmt"
	"strings"
)

// Compatibility returns the tables of all fields in Markdown: what becomes of each, kind by kind.
func Compatibility() string {
	var out strings.Builder
	for _, k := range kinds {
		note := ""
		if k.fixedName != "" {
			note = fmt.Sprintf("Its name is always `%s`.", k.fixedName)
		}
		table(&out, "Config entry `"+k.name+"`", note, k.fields)
	}
	out.WriteString("### Other kinds of config entries\n\n| kind | what becomes of it |\n| --- | --- |\n")
	for _, r := range refusedKinds {
		fmt.Fprintf(&out, "| `%s` | refused: %s |\n", r.name, r.why)
	}
	out.WriteString("\n")
	table(&out, "Service definitions", "`check` and `checks` hold the fields of the next table; `sidecar_service` those of a service.", serviceFields)
	table(&out, "Checks", "Exactly one of TTL, TCP, HTTP and AliasService.", checkRequestFields)
	table(&out, "`POST /v1/peering/token`", "", tokenRequestFields)
	table(&out, "`POST /v1/peering/establish`", "", establishRequestFields)
	return strings.TrimSuffix(out.String(), "\n")
}

// elsewhere lists the fields whose own fields have a table already.
var elsewhere = map[string]bool{"Check": true, "Checks": true, "SidecarService": true}

func table(out *strings.Builder, title, note string, fields []field) {
	fmt.Fprintf(out, "### %s\n\n", title)
	if note != "" {
		fmt.Fprintf(out, "%s\n\n", note)
	}
	out.WriteString("| field | what becomes of it | meaning |\n| --- | --- | --- |\n")
	rows(out, fields, "")
	out.WriteString("\n")
}

// rows writes a row for each field, and for those below it. What is kept or refused as a whole is one row.
func rows(out *strings.Builder, fields []field, path string) {
	for i := range fields {
		f := &fields[i]
		at := join(path, f.name)
		switch f.is {
		case objects, texts, ports:
			at += "[]"
		case named:
			at += ".*"
		}
		if f.note != "" {
			fmt.Fprintf(out, "| `%s`%s | %s | %s |\n", at, alsoSpelled(f), f.becomes(), strings.ReplaceAll(f.note, "|", "\\|"))
		}
		if f.does == honoured && !elsewhere[f.name] {
			rows(out, f.sub, at)
		}
	}
}

func alsoSpelled(f *field) string {
	if len(f.also) == 0 {
		return ""
	}
	return ", also `" + strings.Join(f.also, "`, `") + "`"
}

// becomes says what becomes of a field, and which values make a difference.
func (f *field) becomes() string {
	switch {
	case f.does == refused && len(f.only) > 0:
		return "refused, but `" + strings.Join(f.only, "`, `") + "`"
	case len(f.only) > 0:
		return f.does.String() + ": `" + strings.Join(f.only, "`, `") + "`; refused: others"
	}
	return f.does.String()
}
