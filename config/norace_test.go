//go:build !race

package config

// slack is how much longer than promised things may take on a machine that does other things too.
const slack = 5
