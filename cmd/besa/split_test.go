package main

import "testing"

func TestPartSize(t *testing.T) {
	for text, want := range map[string]partSize{"2G": 2e9, "500M": 5e8, "7k": 7e3} {
		var s partSize
		if err := s.Set(text); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "G", "2", "0G", "-1G", "1.5G", "2GB", "2GiB", "2T", "99999999999G"} {
		var s partSize
		if s.Set(text) == nil {
			t.Errorf("%q is taken for %d bytes", text, s)
		}
	}
}
