//go:build !race

package compose

// raceDetector tells that this build's shadow memory needs far more address space than any limit allows.
const raceDetector = false
