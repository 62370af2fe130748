// Package mqtt is the wire: every packet of MQTT 3.1, 3.1.1 and 5.0, both
// directions.
//
// Start with [ParseHeader], then the view of the packet's type: [Connect],
// [Publish], [Subscribe] … A view holds sub-slices of the bytes it was parsed
// from; who keeps one past the call copies it. Parsing is strict and allocates
// nothing on the path of PUBLISH and of acknowledgements. What a Parse accepts,
// Append encodes back to the same bytes, with one exception: a 3.x packet with
// an over-long Remaining Length ([Header.Overlong]) is accepted and encoded
// short.
//
// Left to the caller: the order of packets, what a client may send (a
// Subscription Identifier in PUBLISH), what is well-formed and too much (client
// ids, counts, sizes), and an overlong CONNECT of 5.0, whose version is not
// known when its header is read.
//
// A refusal is an [*Error] that names the reason code, the clause of the
// standard and the offset. [ErrIncomplete] says that more bytes are needed; no
// proper prefix of a packet gives anything else, unless the bytes present are
// already wrong.
package mqtt
