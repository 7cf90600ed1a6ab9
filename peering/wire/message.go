package wire

import "errors"

// A Message is all that may be sent on a stream. A Response among them carries a Resource, so that nothing reaches a peer
// that its constructor did not check. The zero value cannot be sent.
type Message struct{ message *ReplicationMessage }

// A Sender is either end of a stream.
type Sender interface {
	Send(*ReplicationMessage) error
}

// Send sends a message on a stream.
func (m Message) Send(on Sender) error {
	if m.message == nil {
		return errors.New("a message that no constructor made")
	}
	return on.Send(m.message)
}

// NewOpen returns a dialer's first message.
func NewOpen(peerID, secret, datacenter string) Message {
	return Message{&ReplicationMessage{Payload: &ReplicationMessage_Open{Open: &Open{
		PeerID: peerID, StreamSecretID: secret, Remote: &RemoteInfo{Datacenter: datacenter},
	}}}}
}

// NewSubscription returns the first Request for a type.
func NewSubscription(peerID, url string) Message {
	return newRequest(&Request{PeerID: peerID, ResourceURL: url})
}

// NewAnswer returns the reply to a Response: an ACK, or with a reason a NACK.
func NewAnswer(to *Response, code int32, reason string) Message {
	request := &Request{ResourceURL: to.GetResourceURL(), ResponseNonce: to.GetNonce()}
	if reason != "" {
		request.Error = &Status{Code: code, Message: reason}
	}
	return newRequest(request)
}

func newRequest(r *Request) Message {
	return Message{&ReplicationMessage{Payload: &ReplicationMessage_Request{Request: r}}}
}

// NewHeartbeat returns what both ends send now and then.
func NewHeartbeat() Message {
	return Message{&ReplicationMessage{Payload: &ReplicationMessage_Heartbeat{Heartbeat: &Heartbeat{}}}}
}

// IsHeartbeat tells whether a message is one.
func (m Message) IsHeartbeat() bool { return m.message.GetHeartbeat() != nil }

// NewTerminated returns the last message of an end that deleted the peering.
func NewTerminated() Message {
	return Message{&ReplicationMessage{Payload: &ReplicationMessage_Terminated{Terminated: &Terminated{}}}}
}
