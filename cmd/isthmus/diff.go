package main

import "strings"

// diffLines returns the lines of two texts as a diff of the whole: "  " for what stays, "- " for what goes, "+ " for what
// comes. The texts are config entries: a table of all pairs of lines is small enough.
func diffLines(before, after string) []string {
	a, b := lines(before), lines(after)
	common := make([][]int, len(a)+1) // of the ends from i and j on: the longest common subsequence
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var diff []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			diff = append(diff, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			diff = append(diff, "- "+a[i])
			i++
		default:
			diff = append(diff, "+ "+b[j])
			j++
		}
	}
	return diff
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// around keeps the lines of a diff that changed, and n lines on either side of them; "…" stands for what is left out.
func around(diff []string, n int) []string {
	keep := make([]bool, len(diff))
	for i, line := range diff {
		if line[0] != ' ' {
			for j := max(0, i-n); j <= min(len(diff)-1, i+n); j++ {
				keep[j] = true
			}
		}
	}
	var kept []string
	for i, line := range diff {
		switch {
		case keep[i]:
			kept = append(kept, line)
		case i == 0 || keep[i-1]:
			kept = append(kept, "  …")
		}
	}
	return kept
}
