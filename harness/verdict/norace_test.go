//go:build !race

package verdict

const raced = false
