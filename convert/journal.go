package convert

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/zeebo/xxh3"

	"besa/internal/disk"
	"besa/sparsefmt"
)

// ErrJournal marks a journal that belongs to another conversion, or that
// another process is writing.
var ErrJournal = errors.New("cannot continue")

// JournalSuffix is what the name of an output's journal folder ends in.
const JournalSuffix = ".besa-journal"

// journal keeps finished blocks in a folder beside the output, so that a
// conversion that was cut off, however hard, continues behind the last of
// them: a lock, a log (see record), and one file of blobs per block.
//
// Nothing counts before it is durable: a block's file is synced and so is its
// name, then the record is written and synced. A record's checksums tell
// whether its blobs are still what they were; if not, the block is done again.
type journal struct {
	dir    string
	lock   *disk.Lock
	log    *os.File            // nil until open
	blocks map[int]blockRecord // finished blocks whose blobs are sound
	named  bool                // the output has its name already: all that was left is to tidy up
	own    bool                // the calibration text that the model writes is, or begins to be, in its file
}

const (
	lockName   = "lock"
	logName    = "log"
	outputName = "output.gguf"
)

// lockJournal makes the folder, or enters it, and keeps other processes out.
// It finds out early whether there can be files beside the output.
func lockJournal(output string) (*journal, error) {
	j := &journal{dir: output + JournalSuffix}
	for {
		if err := os.Mkdir(j.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make a journal beside the output: %w", err)
		}
		lock, err := disk.Acquire(j.path(lockName))
		switch {
		case errors.Is(err, fs.ErrNotExist): // who was here before has just removed it
			continue
		case errors.Is(err, disk.ErrLocked):
			return nil, fmt.Errorf("%w: another process is converting to %s; wait for it, or choose another output with -o", ErrJournal, output)
		case err != nil:
			return nil, fmt.Errorf("lock the journal: %w", err)
		}
		j.lock = lock
		return j, nil
	}
}

func (j *journal) path(name string) string { return filepath.Join(j.dir, name) }

// blobs is the name of the file that holds a block's blobs.
func (j *journal) blobs(block int) string { return j.path(fmt.Sprintf("block-%d", block)) }

// outputIsDone tells whether the output has got its name, and the process that
// gave it was killed before it could remove the journal.
func outputIsDone(output string) bool {
	log, err := os.ReadFile(filepath.Join(output+JournalSuffix, logName))
	if err != nil || !parseRecords(log).complete {
		return false
	}
	_, err = os.Lstat(filepath.Join(output+JournalSuffix, outputName))
	return errors.Is(err, fs.ErrNotExist)
}

// tidyJournal removes a journal that has nothing in it any more.
func tidyJournal(output string) {
	if _, err := os.Stat(output + JournalSuffix); err != nil {
		return
	}
	if j, err := lockJournal(output); err == nil {
		_ = j.close(false)
	}
}

// open reads what an earlier run has left. Unless resume is false it keeps the
// blocks that were finished with the same fingerprint, and refuses others.
func (j *journal) open(fp fingerprint, resume bool, check func(blockRecord) error) error {
	then, err := j.read(fp, resume)
	switch {
	case err != nil:
		return err
	case then.fingerprint == nil:
		return j.start(fp)
	}
	return j.reopen(then, check)
}

// read returns what an earlier run has left that can be continued; nothing, if
// its fingerprint is nil. It changes no file.
func (j *journal) read(fp fingerprint, resume bool) (then contents, err error) {
	log, err := os.ReadFile(j.path(logName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return contents{}, err
	}
	then = parseRecords(log)
	if !resume || then.fingerprint == nil {
		return contents{}, nil
	}
	done := outputIsDone(strings.TrimSuffix(j.dir, JournalSuffix))
	if diff := fp.differences(then.fingerprint); diff != "" {
		if done {
			return contents{}, nil
		}
		return contents{}, fmt.Errorf("%w: %s is from a conversion that differs in: %s; start afresh with --resume=false, or choose another output with -o",
			ErrJournal, j.dir, diff)
	}
	j.named = done
	return then, nil
}

// sound lists the finished blocks that are this model's and undamaged.
func (j *journal) sound(then contents, check func(blockRecord) error) map[int]blockRecord {
	blocks := map[int]blockRecord{}
	for i, b := range then.blocks {
		if check(b) == nil && (j.named || j.verify(b) == nil) {
			blocks[i] = b
		}
	}
	return blocks
}

// reopen continues a log after its last sound record.
func (j *journal) reopen(then contents, check func(blockRecord) error) error {
	j.blocks = j.sound(then, check)
	var err error
	if j.log, err = os.OpenFile(j.path(logName), os.O_RDWR, 0); err != nil {
		return err
	}
	if err := j.log.Truncate(int64(then.sound)); err != nil {
		return err
	}
	_, err = j.log.Seek(int64(then.sound), io.SeekStart)
	return errors.Join(err, j.sweep(false))
}

// start begins a new log.
func (j *journal) start(fp fingerprint) error {
	j.blocks = map[int]blockRecord{}
	if err := j.sweep(true); err != nil {
		return err
	}
	var err error
	if j.log, err = os.OpenFile(j.path(logName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return err
	}
	if err := j.append(record{Fingerprint: fp}); err != nil {
		return err
	}
	return errors.Join(disk.SyncDir(j.dir), disk.SyncDir(filepath.Dir(j.dir)))
}

// sweep removes what no record vouches for, but for the model's own text; the
// log too, if all is to go.
func (j *journal) sweep(all bool) error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	keep := map[string]bool{lockName: true, logName: !all, ownName: j.own}
	for i := range j.blocks {
		keep[filepath.Base(j.blobs(i))] = true
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, os.Remove(j.path(e.Name())))
		}
	}
	return err
}

// append writes a record and makes it durable.
func (j *journal) append(r record) error {
	line, err := appendRecord(nil, r)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := j.log.Write(line); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.log.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// put keeps a finished block.
func (j *journal) put(b blockRecord, blobs [][]byte) error {
	if err := disk.WriteFile(j.blobs(b.Report.Block), blobs...); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := disk.SyncDir(j.dir); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := j.append(record{Block: &b}); err != nil {
		return err
	}
	j.blocks[b.Report.Block] = b
	return nil
}

// name gives the finished output its name; from then on the journal is only
// waiting to be removed.
func (j *journal) name(output string) error {
	if err := j.append(record{Complete: true}); err != nil {
		return err
	}
	if err := os.Rename(j.path(outputName), output); err != nil {
		return err
	}
	j.named = true
	return disk.SyncDir(filepath.Dir(output))
}

// verify compares a block's blobs with the checksums of its record.
func (j *journal) verify(b blockRecord) error {
	f, err := os.Open(j.blobs(b.Report.Block))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, t := range b.Tensors {
		h := xxh3.New()
		if _, err := io.CopyN(h, f, int64(t.BlobBytes)); err != nil {
			return err
		}
		if h.Sum64() != t.BlobSum {
			return fmt.Errorf("%s: blob of tensor %q is damaged", f.Name(), t.Name)
		}
	}
	return nil
}

// each calls f with every blob of a finished block, in the order of its record.
func (j *journal) each(block int, f func(i int, b sparsefmt.Blob) error) error {
	at, path := int64(0), j.blobs(block)
	for i, t := range j.blocks[block].Tensors {
		start, size := at, int64(t.BlobBytes)
		at += size
		err := f(i, sparsefmt.Blob{Info: t, Open: func() (io.ReadCloser, error) {
			file, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return section{io.NewSectionReader(file, start, size), file}, nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// section is a part of a file, closed with it.
type section struct {
	*io.SectionReader
	io.Closer
}

// close leaves the folder; keep says whether what is finished stays. What was
// there before open stays in any case.
func (j *journal) close(keep bool) error {
	j.own = j.own && keep
	if j.log == nil {
		// Not this conversion's: only an empty folder goes.
		if !keep {
			_ = os.Remove(j.path(ownName)) // need not exist
		}
		entries, err := os.ReadDir(j.dir)
		empty := err == nil && len(entries) == 1
		return j.leave(empty)
	}
	err := j.log.Close()
	if !keep {
		j.blocks = nil
		err = errors.Join(err, j.sweep(true))
	}
	return errors.Join(err, j.leave(!keep))
}

// leave unlocks the folder and, if it is to be removed, removes it, unless
// someone has entered it by then.
func (j *journal) leave(remove bool) error {
	err := j.lock.Release(remove)
	if remove {
		_ = os.Remove(j.dir) // not empty: it is theirs
	}
	return err
}
