package plan

import "fmt"

// Count says how many there are: "1 check", "2 checks".
func Count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}

	return fmt.Sprintf("%d %s", n, noun)
}

// ExitWords is an exit code, with what a shell or a container runtime means by it where that is known: "3",
// "127 (command not found)", "143 (signal 15)".
func ExitWords(code int) string {
	const signals = 128 // and the number of the signal, of which there are 64
	switch {
	case code == 126:
		return "126 (not executable)"
	case code == 127:
		return "127 (command not found)"
	case code > signals && code <= signals+64:
		return fmt.Sprintf("%d (signal %d)", code, code-signals)
	}

	return fmt.Sprint(code)
}
