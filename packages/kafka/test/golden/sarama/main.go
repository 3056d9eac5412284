// Prints sarama-fnv1a.txt: go mod init golden && go get github.com/IBM/sarama@v1.61.1 && go run .
package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

func key(i int) string {
	switch i % 5 {
	case 0:
		return fmt.Sprintf("order-%d", i)
	case 1:
		return fmt.Sprintf("tenant-%d:customer/%d", i%37, i*7919)
	case 2:
		return strconv.FormatInt(int64(i)*40503, 16)
	case 3:
		return fmt.Sprintf("kü€-%d", i)
	default:
		return strings.Repeat("x", i%67) + strconv.Itoa(i)
	}
}

func main() {
	p := sarama.NewHashPartitioner("t")
	for i := 0; i < 10000; i++ {
		n, err := p.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key(i))}, 12)
		if err != nil {
			panic(err)
		}
		sep := " "
		if i%100 == 99 {
			sep = "\n"
		}
		fmt.Print(n, sep)
	}
}
