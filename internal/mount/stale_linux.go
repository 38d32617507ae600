package mount

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// removeStale takes away what a besa that died without unmounting has left on
// dir: a mount that answers nothing any more. It tells whether it did.
func removeStale(dir string) bool {
	if !mountedByBesa(dir) {
		return false
	}
	if syscall.Unmount(dir, syscall.MNT_DETACH) == nil {
		return true
	}
	helper, err := helperProgram()
	return err == nil && exec.Command(helper, "-u", "-z", dir).Run() == nil
}

// mountedByBesa looks dir up in the kernel's list, whose lines are "… … … …
// DIR options … - TYPE source options" (proc(5), mountinfo). What is mounted
// last hides the others.
func mountedByBesa(dir string) bool {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	defer f.Close()
	dir = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(dir)
	besa := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); len(fields) > 4 && fields[4] == dir {
			besa = strings.HasPrefix(after, "fuse.besa ")
		}
	}
	return besa
}
