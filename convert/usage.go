package convert

import (
	"bytes"
	"strconv"
	"sync"
	"time"
)

// usage is the memory that this process takes up, in bytes; 0: not known here.
type usage struct {
	peak      int64 // largest resident size so far
	anonymous int64 // resident now and not backed by a file
}

// usageMeter watches the anonymous memory of the process, of which the system
// keeps no maximum.
type usageMeter struct {
	mu   sync.Mutex
	peak int64 // anonymous
	stop chan struct{}
	done sync.WaitGroup
}

const usagePeriod = 50 * time.Millisecond

func startUsageMeter() *usageMeter {
	m := &usageMeter{stop: make(chan struct{})}
	m.done.Go(func() {
		tick := time.NewTicker(usagePeriod)
		defer tick.Stop()
		for {
			m.sample()
			select {
			case <-tick.C:
			case <-m.stop:
				return
			}
		}
	})
	return m
}

func (m *usageMeter) sample() int64 {
	u := readUsage()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak = max(m.peak, u.anonymous)
	return u.peak
}

// peaks returns the largest resident and the largest anonymous size so far.
func (m *usageMeter) peaks() (resident, anonymous int64) {
	resident = m.sample()
	m.mu.Lock()
	defer m.mu.Unlock()
	return resident, m.peak
}

func (m *usageMeter) close() {
	close(m.stop)
	m.done.Wait()
}

// statusBytes reads a line of Linux's status files, such as "VmHWM:	   1234 kB".
func statusBytes(text []byte, key string) int64 {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				n, _ := strconv.ParseInt(string(fields[0]), 10, 64) // 0 says not known
				return n << 10
			}
		}
	}
	return 0
}
