package traffic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnAlarmIsNeverEarlyAndGoesOffEachTime(t *testing.T) {
	a := newAlarm()
	defer a.close()
	for _, wait := range []time.Duration{-time.Hour, 0, 1, time.Microsecond, 300 * time.Microsecond, 3 * time.Millisecond, 20 * time.Millisecond, 1} {
		at := time.Now().Add(wait)
		a.until(at)
		require.False(t, time.Now().Before(at), wait)
	}
}

func TestAnAlarmThatIsNotToBeHadIsMadeUpFor(t *testing.T) {
	broken, none := newAlarm(), &alarm{}
	broken.close()
	for _, a := range []*alarm{broken, none} {
		at := time.Now().Add(2 * time.Millisecond)
		a.until(at)
		require.False(t, time.Now().Before(at))
	}
	none.close()
}
