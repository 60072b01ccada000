// Prints what cAdvisor's parser of the kernel log reads, a line for each kill, until it is ended.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/google/cadvisor/utils/oomparser"
)

func main() {
	parser, err := oomparser.New()
	if err != nil {
		log.Fatal(err)
	}
	kills := make(chan *oomparser.OomInstance)
	go parser.StreamOoms(kills)
	printed := json.NewEncoder(os.Stdout)
	for kill := range kills {
		if err := printed.Encode(kill); err != nil {
			log.Fatal(err)
		}
	}
}
