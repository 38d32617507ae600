package main

func packs(s isa) {}
