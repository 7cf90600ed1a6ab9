package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// demoOutput prints the steps, for people or as JSON lines.
type demoOutput struct {
	w     io.Writer
	json  bool
	count int
}

// demoLine is one step as JSON.
type demoLine struct {
	Step    int    `json:"step"`
	Title   string `json:"title"`
	Command string `json:"command,omitempty"`
	Result  string `json:"result,omitempty"`
	TookMs  int64  `json:"took_ms"`
	Error   string `json:"error,omitempty"`
}

// step does a step and prints it: its title before, so that a long one shows what is waited for.
func (o *demoOutput) step(ctx context.Context, s demoStep) error {
	o.count++
	if !o.json {
		fmt.Fprintf(o.w, "%2d. %s\n", o.count, s.title)
		if s.command != "" {
			fmt.Fprintf(o.w, "      $ %s\n", s.command)
		}
	}
	start := time.Now()
	result, err := s.do(ctx)
	took := time.Since(start)
	line := demoLine{Step: o.count, Title: s.title, Command: s.command, Result: result, TookMs: took.Milliseconds()}
	if err != nil {
		line.Error = err.Error()
		err = fmt.Errorf("step %d, %s: %w", o.count, s.title, err)
	}
	o.print(line)
	return err
}

func (o *demoOutput) print(line demoLine) {
	if o.json {
		_ = json.NewEncoder(o.w).Encode(line) // standard output is all there is to tell
		return
	}
	if line.Error == "" {
		fmt.Fprintf(o.w, "      %s (%d ms)\n", orWord(line.Result, "done"), line.TookMs)
	}
}

func orWord(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// done prints what is up and what to try next, unless it goes at once.
func (o *demoOutput) done(took time.Duration, d *demo, goes bool) {
	if o.json {
		_ = json.NewEncoder(o.w).Encode(map[string]any{ // as print
			"done": true, "took_ms": took.Milliseconds(), "upstream": "127.0.0.1:" + d.alpha.upstream, "alpha": d.alpha.http, "beta": d.beta.http,
		})
		return
	}
	fmt.Fprintf(o.w, "\nAll of it took %.1f s. ", took.Seconds())
	if goes {
		fmt.Fprintln(o.w, "It goes now; without --once it stays up.")
		return
	}
	fmt.Fprintln(o.w, "It stays up until Ctrl-C. Try:")
	fmt.Fprintf(o.w, "  echo you | nc 127.0.0.1 %s\n", d.alpha.upstream)
	for _, c := range []*demoCluster{d.alpha, d.beta} {
		fmt.Fprintf(o.w, "  %s\n", c.words("status"))
	}
	fmt.Fprintf(o.w, "  %s\n", d.alpha.words("proxies"))
}
