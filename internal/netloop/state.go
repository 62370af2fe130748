package netloop

// The states of a connection, in the order they are gone through.
const (
	stateConnecting uint8 = iota
	stateOpen
	stateFinishing // Finish: kept bytes are to be sent
	stateDraining  // our side is shut down, the peer's end is awaited
	stateClosed
)
