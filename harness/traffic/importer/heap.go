package importer

// heap is a binary heap. The standard library's would put every request behind
// an interface.
type heap[T any] struct{ all []T }

func (h *heap[T]) size() int   { return len(h.all) }
func (h *heap[T]) empty() bool { return len(h.all) == 0 }
func (h *heap[T]) top() T      { return h.all[0] }

func (h *heap[T]) push(v T, less func(a, b T) bool) {
	h.all = append(h.all, v)
	i := len(h.all) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !less(h.all[i], h.all[parent]) {
			return
		}
		h.all[i], h.all[parent] = h.all[parent], h.all[i]
		i = parent
	}
}

func (h *heap[T]) pop(less func(a, b T) bool) T {
	first, last := h.all[0], len(h.all)-1
	h.all[0] = h.all[last]
	clear(h.all[last:])
	h.all = h.all[:last]
	h.fix(less)
	return first
}

// fix puts the top in its place after it has changed.
func (h *heap[T]) fix(less func(a, b T) bool) {
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h.all) {
			return
		}
		if right := child + 1; right < len(h.all) && less(h.all[right], h.all[child]) {
			child = right
		}
		if !less(h.all[child], h.all[i]) {
			return
		}
		h.all[i], h.all[child] = h.all[child], h.all[i]
		i = child
	}
}
