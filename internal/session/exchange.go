package session

import "math/bits"

// stage is how far a message of QoS 1 or 2 has come towards the broker.
type stage uint8

const (
	stageSent1    stage = 1 + iota // QoS 1 forwarded: PUBACK is awaited
	stageSent2                     // QoS 2 forwarded: PUBREC is awaited
	stageReleased                  // PUBREC has come: PUBCOMP is awaited
	stageLowered                   // QoS 2 sent as QoS 1: its PUBACK becomes PUBREC
	stageOurs                      // PUBREC came from us, or its like: PUBREL is ours to answer
	stageParked                    // not forwarded yet: the broker takes no more
	stageSwallow                   // PUBREL was answered by us and forwarded too: the broker's PUBCOMP is swallowed
	stages
)

// exchange is one packet id in use.
type exchange struct {
	id    uint16 // 0: free slot
	stage stage
	again bool // a DUP on a resumed session: the broker may hold the id as well
}

// exchanges are the packet ids in use in one direction: open addressing. Ids
// that count up are scattered, or they would be one long run to search. A nil
// table is empty.
type exchanges struct {
	slots []exchange // a power of two
	shift uint8      // of the hash, to an index
	n     int32
	by    [stages]uint16 // how many are in a stage
}

const (
	leastSlots = 8
	keptSlots  = 64 // an empty table larger than this is freed
)

func (e *exchanges) home(id uint16) int { return int(uint32(id) * 2654435769 >> e.shift) }

// find returns the slot of an id, or the free one where it would stand. There
// must be slots, and a free one.
func (e *exchanges) find(id uint16) int {
	mask := len(e.slots) - 1
	for i := e.home(id); ; i = (i + 1) & mask {
		if x := e.slots[i].id; x == id || x == 0 {
			return i
		}
	}
}

// get returns the exchange of an id, nil when there is none. It is valid until
// the next put or remove.
func (e *exchanges) get(id uint16) *exchange {
	if e == nil || e.n == 0 {
		return nil
	}
	if x := &e.slots[e.find(id)]; x.id == id {
		return x
	}
	return nil
}

// byClient is how many the client counts in its Receive Maximum: PUBCOMP has
// ended what is swallowed.
func (e *exchanges) byClient() int { return int(e.n) - int(e.by[stageSwallow]) }

// byBroker is how many the broker counts in its Receive Maximum.
func (e *exchanges) byBroker() int {
	return e.byClient() - int(e.by[stageOurs]) - int(e.by[stageParked])
}

// awaitsPuback reports whether a PUBACK of the broker will make room: with the
// client's count, or only with the broker's.
func (e *exchanges) awaitsPuback(broker bool) bool {
	return e.by[stageSent1] > 0 || broker && e.by[stageLowered] > 0
}

// set moves an exchange to another stage.
func (e *exchanges) set(x *exchange, st stage) {
	e.by[x.stage]--
	e.by[st]++
	x.stage = st
}

// put sets the stage of an id. The table holds at most 65,535: there are no
// more ids.
func (e *exchanges) put(id uint16, st stage, again bool) {
	if 4*int(e.n+1) > 3*len(e.slots) {
		e.grow()
	}
	x := &e.slots[e.find(id)]
	if x.id == 0 {
		e.n++
	} else {
		e.by[x.stage]--
	}
	e.by[st]++
	*x = exchange{id: id, stage: st, again: again}
}

func (e *exchanges) grow() {
	old := e.slots
	e.slots = make([]exchange, max(2*len(old), leastSlots))
	e.shift = uint8(32 - bits.TrailingZeros(uint(len(e.slots))))
	for _, x := range old {
		if x.id != 0 {
			e.slots[e.find(x.id)] = x
		}
	}
}

// remove frees an id; one that is not in use it leaves.
func (e *exchanges) remove(id uint16) {
	if e == nil || e.n == 0 {
		return
	}
	i := e.find(id)
	if e.slots[i].id != id {
		return
	}
	e.by[e.slots[i].stage]--
	e.n--
	if e.n == 0 && len(e.slots) > keptSlots {
		e.slots = nil
		return
	}
	// Shift back what probing had pushed over the freed slot.
	mask := len(e.slots) - 1
	e.slots[i] = exchange{}
	for j := (i + 1) & mask; e.slots[j].id != 0; j = (j + 1) & mask {
		if (j-e.home(e.slots[j].id))&mask >= (j-i)&mask {
			e.slots[i], e.slots[j] = e.slots[j], exchange{}
			i = j
		}
	}
}
