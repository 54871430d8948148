//go:build !race

package state

const damages = 2000
