package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/config"
)

// serverFlags adds a flag for each option of the server and returns the values that they will have.
func serverFlags(flags *pflag.FlagSet) map[string]*string {
	values := map[string]*string{}
	for _, option := range config.Options() {
		usage := option.Usage
		if option.Default != "" {
			usage += fmt.Sprintf(" (default %s)", option.Default)
		}
		value := new(string)
		values[option.Name] = value
		if option.IsBool() {
			flags.Var((*switchText)(value), option.Flag(), usage)
			flags.Lookup(option.Flag()).NoOptDefVal = "true"
			continue
		}
		flags.StringVar(value, option.Flag(), "", usage)
	}
	return values
}

// switchText is the text of a flag that may stand alone. The option itself says what it may be.
type switchText string

func (s *switchText) String() string         { return string(*s) }
func (s *switchText) Set(value string) error { *s = switchText(value); return nil }
func (s *switchText) Type() string           { return "bool" }

// serverConfig returns the whole configuration: the file, over it the variables, over these the flags, and the defaults
// of what is left.
func serverConfig(file string, values map[string]*string, flags *pflag.FlagSet, env func(string) (string, bool)) (config.Server, error) {
	var cfg config.Server
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return cfg, fmt.Errorf("--config: %w", err)
		}
		if cfg, err = config.LoadServer(file, text); err != nil {
			return cfg, err
		}
	}
	errs := []error{}
	for _, option := range config.Options() {
		if value, ok := env(option.Env()); ok {
			errs = append(errs, from(option.Env(), option.Set(&cfg, value)))
		}
		if flags.Changed(option.Flag()) {
			errs = append(errs, from("--"+option.Flag(), option.Set(&cfg, *values[option.Name])))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return cfg, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return cfg.Resolve(host)
}

func from(where string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}
