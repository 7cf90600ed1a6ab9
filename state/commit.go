package state

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// reserve is how many indexes Announce takes at once, so that it need not write for each. A crash loses the rest.
const reserve = 1000

// A request is one write that waits for its turn.
type request struct {
	events []snapshot.Event
	// build returns the events when the turn has come, for what depends on what is stored then.
	build func(*bolt.Tx) ([]snapshot.Event, error)
	// extra runs in the transaction after the events, for what is stored and in no World. Its error refuses the request.
	extra func(*bolt.Tx) error
	audit []AuditRecord // written with the events, after those that the events make themselves
	// after runs in the same turn once all this is stored, for what is kept in memory of it.
	after func()
	actor string
	index uint64 // the answer
	err   error
	done  chan struct{} // closed when index and err are set
}

// Commit stores events, all or none, and returns once they are on the disk and in World: the index from which they can
// be seen. The first Check that refuses is the error, as it came. Objects get their indexes on a copy; one that is
// already stored as it is changes nothing. An event with an empty Key is only its Check. When ctx ends before the write
// began, nothing is written and the error is ctx's.
func (s *Store) Commit(ctx context.Context, events ...snapshot.Event) (uint64, error) {
	for _, event := range events {
		if event.Key == (snapshot.Key{}) && event.Object == nil {
			continue
		}
		if err := checkEvent(event); err != nil {
			return 0, err
		}
	}
	return s.submit(ctx, &request{events: events})
}

// Announce publishes events of TableNames, which are not stored. It waits its turn behind writes.
func (s *Store) Announce(ctx context.Context, events ...snapshot.Event) error {
	for _, event := range events {
		if event.Key.Table != snapshot.TableNames {
			return fmt.Errorf("%s: is stored: commit it", event.Key)
		}
		if _, ok := event.Object.(*snapshot.ResolvedName); !ok && event.Object != nil {
			return fmt.Errorf("%s: is %T: want *snapshot.ResolvedName", event.Key, event.Object)
		}
	}
	_, err := s.submit(ctx, &request{events: events})
	return err
}

// submit queues r and waits until it is written. Whoever gets the turn writes everything that waits, in one transaction:
// many writers share one flush of the disk.
func (s *Store) submit(ctx context.Context, r *request) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r.actor, r.done = s.cfg.Actor(ctx), make(chan struct{})
	s.queueMu.Lock()
	s.queue = append(s.queue, r)
	s.queueMu.Unlock()
	select {
	case <-r.done:
	case s.turn <- struct{}{}:
		s.write(s.takeQueue())
		<-s.turn
		<-r.done // in that batch, or in one before it
	case <-ctx.Done():
		if s.withdraw(r) {
			return 0, ctx.Err()
		}
		<-r.done
	}
	return r.index, r.err
}

func (s *Store) takeQueue() []*request {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	batch := s.queue
	s.queue = nil
	return batch
}

// withdraw takes r back, unless its write has begun.
func (s *Store) withdraw(r *request) bool {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	i := slices.Index(s.queue, r)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	return true
}

// write answers every request of a batch. When the file refuses the batch, each is tried alone: what one of them needs
// (room for it on the disk) must not be missed by the others.
func (s *Store) write(batch []*request) {
	err := s.writeTogether(batch)
	for _, r := range batch {
		alone := err
		if err != nil && len(batch) > 1 {
			r.err = nil
			alone = s.writeTogether([]*request{r})
		}
		if alone != nil {
			r.err = alone
		}
		if r.err != nil {
			r.index = 0
		}
		close(r.done)
	}
}

// writeTogether stages each request on top of those before it, stores the ones that were not refused in one transaction
// and publishes the World after them. On an error nothing was stored and nothing published.
func (s *Store) writeTogether(batch []*request) error {
	if s.broken != nil {
		return s.broken
	}
	w := &write{store: s, world: s.World(), audit: s.audit}
	defer w.rollback()
	for _, r := range batch {
		if err := w.stage(r); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("data directory %s: %w", s.cfg.Dir, err)
	}
	for _, r := range batch {
		if r.after != nil && r.err == nil {
			r.after()
		}
	}
	if w.world != s.World() {
		s.publisher.Publish(w.world, w.changed)
	}
	return nil
}

// write is one transaction in the making.
type write struct {
	store   *Store
	tx      *bolt.Tx // nil until something must be stored
	world   *snapshot.World
	changed []snapshot.Key
	audit   auditHead
	index   uint64 // to be stored; 0: as it is
}

func (w *write) begin() (err error) {
	if w.tx == nil {
		w.tx, err = w.store.db.Begin(true)
	}
	return err
}

func (w *write) rollback() {
	if w.tx != nil {
		_ = w.tx.Rollback() // answers only that there is nothing left to roll back
	}
}

// stage adds r to the transaction, or sets r.err when it is refused. An error concerns the whole transaction.
func (w *write) stage(r *request) (err error) {
	if r.build != nil {
		if err := w.begin(); err != nil {
			return err
		}
		if r.events, err = r.build(w.tx); err != nil {
			return err
		}
	}
	for _, event := range r.events {
		if event.Check == nil {
			continue
		}
		if r.err = runCheck(event, w.world); r.err != nil {
			return nil
		}
	}
	changes, err := w.changes(r)
	if err != nil || r.err != nil {
		return err
	}
	index := w.world.Index
	if slices.ContainsFunc(changes, change.visible) {
		index++
	}
	var events []snapshot.Event
	for _, c := range changes {
		event, err := w.put(c, index, r)
		if err != nil {
			return err
		}
		if c.visible() {
			events = append(events, event)
			w.changed = append(w.changed, event.Key)
		}
	}
	if r.extra != nil {
		if err := w.begin(); err != nil {
			return err
		}
		if err := r.extra(w.tx); err != nil {
			return err
		}
	}
	for _, record := range r.audit {
		if err := w.record(r.actor, record); err != nil {
			return err
		}
	}
	if len(events) > 0 {
		w.world = w.world.With(index, events)
	}
	r.index = index
	return nil
}

func runCheck(event snapshot.Event, world *snapshot.World) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: check: %v", event.Key, r) // the other writers of this batch must not wait for ever
		}
	}()
	return event.Check(world)
}

// changes returns what r changes, each key once: the last event of a key is the one that counts.
func (w *write) changes(r *request) ([]change, error) {
	last := make(map[snapshot.Key]int, len(r.events))
	for i, event := range r.events {
		last[event.Key] = i
	}
	var changes []change
	for i, event := range r.events {
		if event.Key == (snapshot.Key{}) || last[event.Key] != i {
			continue
		}
		if event.Key.Table == snapshot.TableNames {
			if parts := event.Key.Parts(); !sameName(event.Object, w.world.Name(parts[0])) {
				changes = append(changes, change{key: event.Key, object: event.Object, gone: event.Object == nil})
			}
			continue
		}
		if err := w.begin(); err != nil {
			return nil, err
		}
		c, changed, err := newChange(w.tx, event)
		if err != nil {
			r.err = fmt.Errorf("%s: %w", event.Key, err)
			return nil, nil
		}
		if changed {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

func sameName(object any, known *snapshot.ResolvedName) bool {
	name, ok := object.(*snapshot.ResolvedName)
	return reflect.DeepEqual(name, known) || !ok && known == nil
}

// commit makes the transaction durable.
func (w *write) commit() error {
	s := w.store
	reserved := s.reserved
	if w.world.Index > reserved {
		if reserved = w.world.Index; w.tx == nil {
			reserved += reserve
		}
		if err := w.begin(); err != nil {
			return err
		}
		if err := putIndex(w.tx, reserved); err != nil {
			return err
		}
	}
	if w.tx == nil {
		return nil
	}
	if w.audit != s.audit {
		if err := w.audit.put(w.tx, auditKey); err != nil {
			return err
		}
	}
	id := w.tx.ID()
	if err := w.tx.Commit(); err != nil {
		s.afterFailure(id, err)
		return err
	}
	s.reserved, s.audit = reserved, w.audit
	return nil
}

// afterFailure finds out whether a transaction that was answered with an error is in the file all the same: the last
// flush may have failed after the write before it. Then nobody can say what a restart will find, and writing on would
// build on it.
func (s *Store) afterFailure(id int, cause error) {
	err := s.db.View(func(tx *bolt.Tx) error {
		if tx.ID() >= id {
			return fmt.Errorf("data directory %s: a write was not confirmed by the disk (%w): restart to see what it kept", s.cfg.Dir, cause)
		}
		return nil
	})
	if err != nil {
		s.broken = err
		s.cfg.Log.WithError(err).Error("store takes no more writes")
	}
}
