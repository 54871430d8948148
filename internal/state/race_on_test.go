//go:build race

package state

// damages is smaller where every check takes ten times as long.
const damages = 250
