//go:build race

package config

// slack is how much longer things may take with the race detector.
const slack = 20
