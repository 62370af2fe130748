// Package auth decides who a client is.
//
// Start with [Gate]: it takes a CONNECT's credentials through client id rules,
// lock-out, the providers and the owner of the client id, and answers with a
// bound policy subject. Hashing runs on a bounded pool, fair by client address;
// what is known already (a cached pair, anonymous, a refusal that needs no
// check) is answered at once by [Gate.Try].
package auth
