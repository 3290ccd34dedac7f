package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A connection with TLS is cut at every byte of what the peer sends: its handshake, two records, and the word
// that nothing more comes. What each cut does to the stream is known, and no rule may be broken.

// cutNames are the steps that cut, by way.
var cutNames = [cutWays]string{"cut-fin", "cut-reset", "cut-silence"}

// cutScenario is a conversation in which one side is cut. Both talk, so that the server is reached before the
// records come.
func cutScenario(client, full bool, version, how string, at int) string {
	clientCut, serverCut, side := "", "", "server"
	cut := fmt.Sprintf("%s %d; ", how, at)
	if client {
		clientCut, side = cut, "client"
	} else {
		serverCut = cut
	}
	text := `
retries 0
timeout connect 50ms
timeout client-hs 40ms
timeout client 70ms
timeout server 60ms
`
	if client { // who is late has to be the one that is cut
		text += "timeout server 3s\n"
	} else {
		text += "timeout client 3s\n"
	}
	if full {
		text += "noise full-handshake 1\n"
	}
	return text + fmt.Sprintf("tls-%s %s\n", side, version) +
		fmt.Sprintf("server accept 0s: %ssend 5; await 5; send 30; fin\n", serverCut) +
		fmt.Sprintf("client 0s: %sawait 5; send 5; send 20; await 35; fin\n", clientCut)
}

// runCut runs one cut and returns how the stream ended, and whether the cut was reached.
func runCut(t *testing.T, text string) (ending string, happened bool) {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	r := Run(s, Options{Transcript: true, Alone: true})
	if len(r.Violations) > 0 {
		t.Fatalf("%s%s\nbreaks a rule: %v", text, strings.Join(r.Transcript, "\n"), r.Violations[0])
	}
	for _, line := range r.Transcript {
		if _, after, found := strings.Cut(line, ": ended "); found {
			ending = after[:2]
		}
	}
	if r.Streams != 1 || ending == "" {
		t.Fatalf("%s: %d streams ended, should be 1", text, r.Streams)
	}
	return ending, r.Happened[CutByFIN]+r.Happened[CutByReset]+r.Happened[CutBySilence] > 0
}

// cutEndings are the endings along the bytes, by way. "--" is at the end of a record: without word in TLS the
// end of the direction is one, too.
func cutEndings(version string, client, full bool) [cutWays]string {
	if client {
		reset := "CR CC CD --"
		if version == "1.2" && full {
			// The engine has the last word of this handshake, and finds the connection broken.
			reset = "CR CD --"
		}
		return [cutWays]string{"CR CC CD -- CD -- CD --", reset, "cR cD --"}
	}
	fin := "SC -- SD -- SD -- SD --"
	if version == "1.3" { // with a ticket in a record after the handshake
		fin = "SC -- SD -- SD -- SD -- SD --"
	}
	return [cutWays]string{fin, "SC SD", "sC sD --"}
}

func TestCutAtEveryByte(t *testing.T) {
	versions, handshakes := tlsNames, []bool{true, false}
	if testing.Short() {
		// The race detector looks at one; the test as a whole is in every other run.
		versions, handshakes = []string{"1.3"}, []bool{false}
	}
	for _, version := range versions {
		for _, client := range []bool{true, false} {
			for _, full := range handshakes {
				name := fmt.Sprintf("%s, client %t, full handshake %t", version, client, full)
				t.Run(name, func(t *testing.T) {
					for way, want := range cutEndings(version, client, full) {
						got := cutEverywhere(t, version, cutNames[way], client, full)
						if text := strings.Join(got, " "); text != want {
							t.Errorf("%s: the endings are %s, should be %s", cutNames[way], text, want)
						}
					}
				})
			}
		}
	}
}

// cutEverywhere cuts one kind of conversation in one way at every byte, and returns the endings along the
// bytes, each once for a stretch.
func cutEverywhere(t *testing.T, version, how string, client, full bool) (endings []string) {
	for at := 0; ; at++ {
		ending, cut := runCut(t, cutScenario(client, full, version, how, at))
		if cut {
			endings = append(endings, ending)
			continue
		}
		if ending != "--" {
			t.Errorf("uncut it ends with %s", ending)
		}
		if least := 400; at < least {
			t.Errorf("%s: there are %d bytes, should be %d or more", how, at, least)
		}
		return slices.Compact(endings)
	}
}
