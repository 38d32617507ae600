package tokenizer

// minHeap is a binary heap. Unlike container/heap it stores its items without
// boxing them, which halves the time of encoding.
type minHeap[T interface{ Before(T) bool }] []T

func (h *minHeap[T]) push(item T) {
	items := append(*h, item)
	i := len(items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !item.Before(items[parent]) {
			break
		}
		items[i] = items[parent]
		i = parent
	}
	items[i] = item
	*h = items
}

func (h *minHeap[T]) pop() T {
	items := *h
	top, last := items[0], items[len(items)-1]
	items = items[:len(items)-1]
	i := 0
	for {
		child := 2*i + 1
		if child >= len(items) {
			break
		}
		if child+1 < len(items) && items[child+1].Before(items[child]) {
			child++
		}
		if !items[child].Before(last) {
			break
		}
		items[i] = items[child]
		i = child
	}
	if len(items) > 0 {
		items[i] = last
	}
	*h = items
	return top
}
