package convert

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/zeebo/xxh3"

	"besa/internal/disk"
)

// ownName is the file in a journal that keeps the calibration text which the
// model writes: the hash of what the text depends on, then tokens in records of
// their number, the tokens and a checksum over both, all little-endian.
const ownName = "calibration"

// openOwn returns the tokens that an earlier run has kept for the same key,
// and makes the file ready for more.
func (j *journal) openOwn(key string, resume bool) ([]int32, error) {
	head := binary.LittleEndian.AppendUint64(nil, xxh3.HashString(key))
	data, err := os.ReadFile(j.path(ownName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []int32
	sound := 0
	if resume && len(data) >= len(head) && string(data[:len(head)]) == string(head) {
		ids, sound = parseOwn(data[len(head):])
		j.own = true
		return ids, os.Truncate(j.path(ownName), int64(len(head)+sound))
	}
	if err := disk.WriteFile(j.path(ownName), head); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return nil, nil
}

// appendOwn keeps sequences, durably.
func (j *journal) appendOwn(sequences [][]int32) error {
	f, err := os.OpenFile(j.path(ownName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(appendOwnRecord(nil, sequences))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.own = true
	return nil
}

func appendOwnRecord(b []byte, sequences [][]int32) []byte {
	start, n := len(b), 0
	for _, s := range sequences {
		n += len(s)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	for _, s := range sequences {
		for _, id := range s {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b[start:]))
}

// parseOwn reads records up to the first that is not sound, and says how many
// bytes those before it take.
func parseOwn(data []byte) (ids []int32, sound int) {
	for {
		rest := data[sound:]
		if len(rest) < 4 {
			return ids, sound
		}
		n := uint64(binary.LittleEndian.Uint32(rest))
		size := 4 + 4*n
		if uint64(len(rest)) < size+8 || xxh3.Hash(rest[:size]) != binary.LittleEndian.Uint64(rest[size:]) {
			return ids, sound
		}
		for i := range n {
			ids = append(ids, int32(binary.LittleEndian.Uint32(rest[4+4*i:])))
		}
		sound += int(size) + 8
	}
}
