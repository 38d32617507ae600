package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/zeebo/xxh3"

	"besa/besa"
	"besa/sparsefmt"
)

// The journal's log is text: one record a line, its XXH3-64 in hexadecimal,
// a blank, and JSON. The first record is the fingerprint, the others finished
// blocks; of two records for a block the later one counts. The last one says
// that the output is complete. A line that is torn or damaged ends the log.

// record is one line: one of the three is set.
type record struct {
	Fingerprint fingerprint  `json:"fingerprint,omitempty"`
	Block       *blockRecord `json:"block,omitempty"`
	Complete    bool         `json:"complete,omitempty"` // the output needs nothing but its name
}

// contents is what a log says.
type contents struct {
	fingerprint fingerprint // nil: not even that is whole
	blocks      map[int]blockRecord
	complete    bool
	sound       int // bytes of the log that count
}

// blockRecord is a finished block. Its blobs lie one after the other in a file
// of their own, in the order of Tensors, which is that of decoder.Linear.
type blockRecord struct {
	Report  BlockReport            `json:"report"`
	Tensors []sparsefmt.TensorInfo `json:"tensors"`
	Norms   *besa.Norms            `json:"norms,omitempty"` // gains that refinement moved
}

// appendRecord appends a record's line to log.
func appendRecord(log []byte, r record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	log = hex.AppendEncode(log, binary.BigEndian.AppendUint64(nil, xxh3.Hash(body)))
	log = append(log, ' ')
	log = append(log, body...)
	return append(log, '\n'), nil
}

// parseRecords reads a log.
func parseRecords(log []byte) contents {
	c := contents{blocks: map[int]blockRecord{}}
	for line := range bytes.Lines(log) {
		r, ok := parseRecord(line)
		if !ok || (c.sound == 0) != (r.Fingerprint != nil) {
			break
		}
		switch {
		case r.Fingerprint != nil:
			c.fingerprint = r.Fingerprint
		case r.Block != nil:
			c.blocks[r.Block.Report.Block] = *r.Block
		}
		c.complete = r.Complete
		c.sound += len(line)
	}
	return c
}

// parseRecord reads one line.
func parseRecord(line []byte) (r record, ok bool) {
	const sum = 16
	if len(line) < sum+2 || line[sum] != ' ' || line[len(line)-1] != '\n' {
		return r, false
	}
	body := line[sum+1 : len(line)-1]
	want := hex.AppendEncode(nil, binary.BigEndian.AppendUint64(nil, xxh3.Hash(body)))
	if !bytes.Equal(line[:sum], want) || json.Unmarshal(body, &r) != nil {
		return r, false
	}
	set := 0
	for _, is := range []bool{r.Fingerprint != nil, r.Block != nil, r.Complete} {
		if is {
			set++
		}
	}
	return r, set == 1 && (r.Block == nil || r.Block.Report.Block >= 0)
}
