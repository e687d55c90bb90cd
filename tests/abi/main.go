// SPDX-License-Identifier: Apache-2.0

// Command abi prints the constants and the layouts of the structs and types that
// an object file's debugging information has under a name with the given
// prefix, a line for each:
//
//	constant NR_EXIT 3
//	struct nr_options 8 flags uint64_t
//	type nr_proc int64_t 8
//
//	abi OBJECT PREFIX
package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
)

func main() {
	log.SetFlags(0)
	object, err := elf.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	data, err := object.DWARF()
	if err != nil {
		log.Fatal(err)
	}
	lines, err := describe(data, os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	sort.Strings(lines)
	_, _ = fmt.Println(strings.Join(lines, "\n"))
}

func describe(data *dwarf.Data, prefix string) (lines []string, err error) {
	reader := data.Reader()
	for {
		entry, err := reader.Next()
		if entry == nil || err != nil {
			return lines, err
		}
		name, _ := entry.Val(dwarf.AttrName).(string)
		switch entry.Tag {
		case dwarf.TagTypedef, dwarf.TagStructType:
			if !strings.HasPrefix(name, prefix) {
				continue
			}
		case dwarf.TagEnumerationType: // these have none
		default:
			continue
		}
		t, err := data.Type(entry.Offset)
		if err != nil {
			return nil, err
		}
		lines = append(lines, layout(t, prefix)...)
	}
}

func layout(t dwarf.Type, prefix string) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch t := t.(type) {
	case *dwarf.TypedefType:
		if _, isStruct := t.Type.(*dwarf.StructType); !isStruct {
			add("type %s %s %d", t.Name, t.Type, t.Size())
		}
	case *dwarf.StructType:
		for _, f := range t.Field {
			add("struct %s %d %s %s", t.StructName, f.ByteOffset, f.Name, f.Type)
		}
		// One that tells its size may grow.
		if len(t.Field) == 0 || t.Field[0].Name != "size" {
			add("struct %s size %d", t.StructName, t.ByteSize)
		}
	case *dwarf.EnumType:
		for _, v := range t.Val {
			if strings.HasPrefix(v.Name, strings.ToUpper(prefix)) {
				add("constant %s %d", v.Name, v.Val)
			}
		}
	}
	return lines
}
