package peering

import (
	"encoding/json"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// RetireToken returns what is restored at now of a private record of ours in a backup. A peering token that was not used when the backup was made may have
// been since, here or at a server that is lost: it comes back revoked, or as what the running server knows of it. Other records come back as they are.
func RetireToken(key snapshot.Key, backup, running []byte, now time.Time) ([]byte, error) {
	parts := key.Parts()
	if len(parts) != 3 || parts[0] != owner || parts[1] != kindToken {
		return backup, nil
	}
	var known, restored tokenRecord
	if running != nil {
		if err := json.Unmarshal(running, &known); err != nil {
			return nil, err
		}
		if !known.ended(now).IsZero() {
			return running, nil
		}
	}
	if err := json.Unmarshal(backup, &restored); err != nil {
		return nil, err
	}
	if !restored.ended(now).IsZero() {
		return backup, nil
	}
	restored.Revoked = now.UTC()
	return json.Marshal(restored)
}
