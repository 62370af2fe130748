// Package wire is the agent protocol on a Unix socket: framing of both
// generations, the events that are read and the answers that are written.
//
// A new connection is told apart by its first five bytes ([Detect]); from then
// on a [Reader] yields [Message]s. The events of the hot path, WebSocket frames,
// are read by [Frame.Scan], a scanner that yields views and allocates nothing;
// whatever surprises it goes to [Frame.Parse], which is built on encoding/json
// and is the scanner's oracle. [Answer.Append] writes without allocating.
//
// [Pool] is the other end: a proxy's connections to an agent.
package wire
