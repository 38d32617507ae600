package sparsefmt

import (
	"container/list"
	"sync"
)

// chunkCache keeps the chunks used last, of at most limit bytes together. A
// chunk that several goroutines ask for at once is made once. Chunks are not
// changed once they are made, so those in use may be dropped.
type chunkCache struct {
	limit int64

	mu     sync.Mutex
	bytes  int64
	recent list.List // of *chunk, the one used last in front
	chunks map[chunkKey]*list.Element
}

// chunkKey is a tensor's number and the chunk's offset in it.
type chunkKey struct {
	tensor int
	offset int64
}

type chunk struct {
	key  chunkKey
	size int64
	once sync.Once
	data []byte
	err  error
}

func newChunkCache(limit int64) *chunkCache {
	return &chunkCache{limit: limit, chunks: map[chunkKey]*list.Element{}}
}

// get returns a chunk of size bytes, which the caller must not change. fill
// makes it if it is not there. A failure is not kept.
func (c *chunkCache) get(key chunkKey, size int64, fill func(dst []byte) error) ([]byte, error) {
	k := c.chunk(key, size)
	k.once.Do(func() {
		data := make([]byte, size)
		if k.err = fill(data); k.err == nil {
			k.data = data
		} else {
			c.drop(k)
		}
	})
	return k.data, k.err
}

// chunk returns the chunk of that key, perhaps empty, and makes it the one
// used last.
func (c *chunkCache) chunk(key chunkKey, size int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.chunks[key]; ok {
		c.recent.MoveToFront(e)
		return e.Value.(*chunk)
	}
	k := &chunk{key: key, size: size}
	if size > c.limit {
		return k
	}
	for c.bytes+size > c.limit {
		c.remove(c.recent.Back())
	}
	c.chunks[key] = c.recent.PushFront(k)
	c.bytes += size
	return k
}

// drop forgets a chunk, if it is still there.
func (c *chunkCache) drop(k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.chunks[k.key]; ok && e.Value.(*chunk) == k {
		c.remove(e)
	}
}

// remove forgets an element. The caller holds the lock.
func (c *chunkCache) remove(e *list.Element) {
	k := c.recent.Remove(e).(*chunk)
	delete(c.chunks, k.key)
	c.bytes -= k.size
}
