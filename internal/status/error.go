package status

// Because makes an error that knows its word in the vocabulary.
func Because(reason Reason, err error) error { return &reasoned{reason, err} }

type reasoned struct {
	reason Reason
	err    error
}

func (e *reasoned) Error() string  { return e.err.Error() }
func (e *reasoned) Unwrap() error  { return e.err }
func (e *reasoned) Reason() Reason { return e.reason }
