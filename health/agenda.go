package health

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// An agenda says what is due next. Each key has one time at most.
type agenda[K comparable] struct {
	queue queue[K]
	dates map[K]*date[K]
}

type date[K comparable] struct {
	key   K
	at    time.Time
	index int // in queue
}

// set moves key to a time, or off the agenda when the time is zero.
func (a *agenda[K]) set(key K, at time.Time) {
	d, ok := a.dates[key]
	switch {
	case at.IsZero() && ok:
		heap.Remove(&a.queue, d.index)
		delete(a.dates, key)
	case at.IsZero():
	case ok:
		d.at = at
		heap.Fix(&a.queue, d.index)
	default:
		if a.dates == nil {
			a.dates = map[K]*date[K]{}
		}
		d = &date[K]{key: key, at: at}
		a.dates[key] = d
		heap.Push(&a.queue, d)
	}
}

// take takes what is due at now off the agenda, one key at a time.
func (a *agenda[K]) take(now time.Time) (key K, ok bool) {
	if len(a.queue) == 0 || a.queue[0].at.After(now) {
		return key, false
	}
	d := heap.Pop(&a.queue).(*date[K])
	delete(a.dates, d.key)
	return d.key, true
}

// wait returns a channel that is sent to when something is due: nil when nothing ever is. stop frees it.
func (a *agenda[K]) wait(now time.Time) (due <-chan time.Time, stop func() bool) {
	if len(a.queue) == 0 {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(a.queue[0].at.Sub(now))
	return timer.C, timer.Stop
}

// around returns a time of about d from now, so that what began together does not stay together.
func around(now time.Time, d time.Duration) time.Time {
	return now.Add(d - d/10 + rand.N(d/5+1))
}

type queue[K comparable] []*date[K]

func (q queue[K]) Len() int           { return len(q) }
func (q queue[K]) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue[K]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue[K]) Push(x any) {
	d := x.(*date[K])
	d.index = len(*q)
	*q = append(*q, d)
}

func (q *queue[K]) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	*q = (*q)[:last]
	return d
}
