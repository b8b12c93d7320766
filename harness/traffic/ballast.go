package traffic

import "runtime"

// ballastSize is how much more a sender's heap grows before it is collected.
const ballastSize = 16 << 20

// Ballast has garbage collected less often. Go collects it when the heap has doubled,
// and a sender's is so small that it does so many times a second at a high rate.
// Memory that nobody touches counts as heap and takes none of the machine's; GOGC
// means what it always does. drop gives it up.
func Ballast() (drop func()) {
	ballast := make([]byte, ballastSize)
	return func() { runtime.KeepAlive(ballast) }
}
