package probe

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Redact returns a text about a probe of the address without the password that
// the address may hold, be it a target to its prober or not.
func Redact(text, address string) string {
	password := passwordIn(address)
	if password == "" {
		return text
	}
	forms := []string{password}
	if meant, err := url.PathUnescape(password); err == nil {
		forms = append(forms, meant, strings.TrimPrefix(url.UserPassword("", meant).String(), ":"))
	}
	// What is no URL is quoted in parts: http://u:pass/word@host has the port pass.
	forms = append(forms, strings.FieldsFunc(password, func(r rune) bool { return strings.ContainsRune("/?#:@", r) })...)
	for _, form := range forms {
		quoted := strconv.Quote(form) // as errors and logs do
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the first that fits is replaced
	var pairs []string
	for _, form := range forms {
		if form != "" {
			pairs = append(pairs, form, "xxxxx")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// Redacted returns the address without the password that it may hold.
func (t *Target) Redacted() string { return Redact(t.Address, t.Address) }

// passwordIn returns the password in an address as it is written there. Where
// the address is no URL, with a scheme or without as http takes it, all that may
// be one is.
func passwordIn(address string) string {
	if !strings.Contains(address, "@") {
		return ""
	}
	scheme, rest, hasScheme := strings.Cut(address, "://")
	if !hasScheme || strings.ContainsAny(scheme, ":@") {
		rest = strings.TrimPrefix(address, "//") // a URL without its scheme
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		if _, err := url.Parse("http://" + rest); err == nil {
			return ""
		}
		if at = strings.LastIndexByte(rest, '@'); !strings.Contains(rest[:at], ":") {
			return rest[:at]
		}
	}
	_, password, _ := strings.Cut(rest[:at], ":")
	return password
}
