// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
)

// randomTree is a TREE of tests/c/helpers/hostile.c.
func randomTree(random *rand.Rand) string {
	var t strings.Builder
	leaders := []string{"leader", "leader", "leader.deaf", "leader.stubborn", "leader.moved", "leader.breed=5",
		"exit=7", "bare", "scrub", "group.stopped"}
	t.WriteString(leaders[random.IntN(len(leaders))])
	if chance(random, 90) {
		addChildren(random, &t, 2)
	}
	return t.String()
}

func addChildren(random *rand.Rand, t *strings.Builder, depth int) {
	separator := "("
	for range 1 + random.IntN(3) {
		t.WriteString(separator)
		addChild(random, t, depth)
		separator = ","
	}
	t.WriteString(")")
}

func addChild(random *rand.Rand, t *strings.Builder, depth int) {
	if chance(random, 10) {
		fmt.Fprintf(t, "%d*", 2+random.IntN(19))
		depth = 0
	}
	places := []string{"child", "group", "session", "daemon", "sibling"}
	t.WriteString(places[random.IntN(len(places))])
	for _, habit := range []string{".scrub", ".bare", ".deaf", ".stubborn", ".stopped", ".asleep"} {
		if chance(random, 12) {
			t.WriteString(habit)
		}
	}
	if chance(random, 2) {
		t.WriteString(".lost")
	}
	ends := []struct {
		word string
		most int
	}{{"bomb", 60}, {"runner", 150}, {"zombies", 10}, {"keeper", 20}, {"breed", 5}, {"exit", 3}}
	if depth > 0 && chance(random, 25) {
		end := ends[random.IntN(len(ends))]
		fmt.Fprintf(t, ".%s=%d", end.word, 1+random.IntN(end.most))
	}
	if depth > 0 && chance(random, 35) {
		addChildren(random, t, depth-1)
	}
}

// census lists the processes whose tag begins with this one, zombies too. They
// are told by their names, see hostile.h. A scan may miss who forks and ends
// while it is made, so one that finds none is repeated.
func census(tag string) []string {
	for range 3 {
		if found := scan(tag); len(found) > 0 {
			return found
		}
	}
	return nil
}

func scan(tag string) (found []string) {
	dir, err := os.Open("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return []string{err.Error()}
	}
	for _, pid := range names {
		if pid[0] < '0' || pid[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if err != nil || open < 0 || end < open {
			continue // it has gone
		}
		name := string(stat[open+1 : end])
		if strings.HasPrefix(name, tag) || (name == "hostile" || name == "exe") && hasArgument(pid, tag) {
			found = append(found, string(stat[:min(len(stat), end+30)]))
		}
	}
	return found
}

// hasArgument is for who has just been executed, and has no name of its own yet.
func hasArgument(pid, tag string) bool {
	arguments, _ := os.ReadFile("/proc/" + pid + "/cmdline")
	return slices.ContainsFunc(bytes.Split(arguments, []byte{0}), func(argument []byte) bool {
		return bytes.HasPrefix(argument, []byte(tag))
	})
}

// anyAlive tells whether one of a census is no zombie.
func anyAlive(found []string) bool {
	return slices.ContainsFunc(found, func(stat string) bool {
		fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		return len(fields) == 0 || fields[0] != "Z" && fields[0] != "X"
	})
}

// openFiles are the descriptors of this process, and what they are of.
func openFiles() (open []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		open = append(open, e.Name()+" "+target)
	}
	return open
}
