// Package topic is the algebra of MQTT topic names and topic filters.
//
// [Match] and [Covers] compare single filters. [Index] finds the first of many
// patterns that matches a name, at a cost that does not depend on how many there
// are. [Set] is an ordered list of allow and deny patterns of which
// the first match wins; [Set.Decide] answers, exactly, what it says about every
// topic that a filter can match.
//
// # What a filter means
//
// Section 4.7 of MQTT 5.0 to the letter: levels are separated by "/", an empty
// level is a level, "+" stands for one level, "#" for the parent and everything
// below it, and levels are compared by bytes. A topic whose first level begins
// with "$" is matched only by a filter whose first level is that same literal
// [MQTT-4.7.2-1]. There is one meaning: what a subscription matches at a broker
// and what a rule's pattern matches here are the same set of topics, so Covers
// is a statement about those sets. The empty string is no topic
// [MQTT-4.7.3-1]: "/#" has no parent that could be one.
//
// "$share/GROUP/FILTER" is not a filter in this sense: [SplitShare] takes the
// group off first.
//
// # Words
//
// Inside the package a topic is also a list of levels in which "+" marks a
// fresh level: one that no pattern mentions. Levels come from an infinite
// alphabet, so a fresh level always exists, and a pattern matches it only with
// "+" or "#". That turns questions about infinite sets of topics into finitely
// many questions about words.
//
// Nothing here does I/O or holds state. All functions may be used from many
// goroutines at once.
package topic
