package gate

// Bounds on what comes from others: the length of a text in characters, and how
// many items are named one by one.
const (
	longest = 200
	most    = 3
)
