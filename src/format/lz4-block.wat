;; Compresses and decompresses LZ4 blocks (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md) and hashes contents
;; with XXH32 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
;; Its compiled form is MODULE in lz4-block.ts. test/format/lz4-block.test.ts compiles this file with the npm package
;; wabt and compares: after a change here, it shows the MODULE to put there.
;; The caller leaves 16 bytes free after the source and after the destination: copies may run over by that much.
(module
  ;; Shared, so that a thread can work in the memory of another one; at most 1 GiB.
  (import "env" "memory" (memory 1 16384 shared))
  ;; Gives the decompressed length, or -1 when the block is invalid or does not fit.
  (func (export "decompress")
    (param $ip i32) (param $sourceEnd i32) (param $destination i32) (param $destinationEnd i32) (result i32)
    (local $op i32) (local $token i32) (local $length i32) (local $byte i32) (local $offset i32) (local $end i32)
    (local $match i32)
    (local.set $op (local.get $destination))
    (block $invalid
      (loop $sequence
        (br_if $invalid (i32.ge_u (local.get $ip) (local.get $sourceEnd)))
        (local.set $token (i32.load8_u (local.get $ip)))
        (local.set $ip (i32.add (local.get $ip) (i32.const 1)))
        ;; Literals.
        (local.set $length (i32.shr_u (local.get $token) (i32.const 4)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $more
            (br_if $invalid (i32.ge_u (local.get $ip) (local.get $sourceEnd)))
            (local.set $byte (i32.load8_u (local.get $ip)))
            (local.set $ip (i32.add (local.get $ip) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $byte)))
            (br_if $more (i32.eq (local.get $byte) (i32.const 255))))))
        (br_if $invalid (i32.gt_u (local.get $length) (i32.sub (local.get $sourceEnd) (local.get $ip))))
        (br_if $invalid (i32.gt_u (local.get $length) (i32.sub (local.get $destinationEnd) (local.get $op))))
        (if (i32.le_u (local.get $length) (i32.const 16))
          (then
            (i64.store (local.get $op) (i64.load (local.get $ip)))
            (i64.store offset=8 (local.get $op) (i64.load offset=8 (local.get $ip))))
          (else (memory.copy (local.get $op) (local.get $ip) (local.get $length))))
        (local.set $ip (i32.add (local.get $ip) (local.get $length)))
        (local.set $op (i32.add (local.get $op) (local.get $length)))
        ;; The last sequence has literals only.
        (if (i32.eq (local.get $ip) (local.get $sourceEnd))
          (then (return (i32.sub (local.get $op) (local.get $destination)))))
        ;; Match.
        (br_if $invalid (i32.lt_u (i32.sub (local.get $sourceEnd) (local.get $ip)) (i32.const 2)))
        (local.set $offset (i32.load16_u (local.get $ip)))
        (local.set $ip (i32.add (local.get $ip) (i32.const 2)))
        (br_if $invalid (i32.eqz (local.get $offset)))
        (br_if $invalid (i32.gt_u (local.get $offset) (i32.sub (local.get $op) (local.get $destination))))
        (local.set $length (i32.and (local.get $token) (i32.const 15)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $more
            (br_if $invalid (i32.ge_u (local.get $ip) (local.get $sourceEnd)))
            (local.set $byte (i32.load8_u (local.get $ip)))
            (local.set $ip (i32.add (local.get $ip) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $byte)))
            (br_if $more (i32.eq (local.get $byte) (i32.const 255))))))
        (local.set $length (i32.add (local.get $length) (i32.const 4)))
        (br_if $invalid (i32.gt_u (local.get $length) (i32.sub (local.get $destinationEnd) (local.get $op))))
        (local.set $match (i32.sub (local.get $op) (local.get $offset)))
        (local.set $end (i32.add (local.get $op) (local.get $length)))
        (if (i32.ge_u (local.get $offset) (i32.const 8))
          (then
            (if (i32.and (i32.gt_u (local.get $length) (i32.const 128))
                         (i32.ge_u (local.get $offset) (local.get $length)))
              (then (memory.copy (local.get $op) (local.get $match) (local.get $length)))
              (else
                (loop $copy8
                  (i64.store (local.get $op) (i64.load (local.get $match)))
                  (local.set $op (i32.add (local.get $op) (i32.const 8)))
                  (local.set $match (i32.add (local.get $match) (i32.const 8)))
                  (br_if $copy8 (i32.lt_u (local.get $op) (local.get $end)))))))
          (else
            ;; The match overlaps what it makes: a run of one byte, or byte by byte.
            (if (i32.eq (local.get $offset) (i32.const 1))
              (then (memory.fill (local.get $op) (i32.load8_u (local.get $match)) (local.get $length)))
              (else
                (loop $copy1
                  (i32.store8 (local.get $op) (i32.load8_u (local.get $match)))
                  (local.set $op (i32.add (local.get $op) (i32.const 1)))
                  (local.set $match (i32.add (local.get $match) (i32.const 1)))
                  (br_if $copy1 (i32.lt_u (local.get $op) (local.get $end))))))))
        (local.set $op (local.get $end))
        (br $sequence)))
    (i32.const -1))

  ;; Adds bytes to a running hash. $state: four lanes, 16 bytes for the stripe that is not whole yet, and its length.
  (func (export "hash") (param $state i32) (param $at i32) (param $end i32)
    (local $rest i32) (local $length i32)
    (local.set $rest (i32.load offset=32 (local.get $state)))
    (if (local.get $rest) (then
      (local.set $length (i32.sub (i32.const 16) (local.get $rest)))
      (if (i32.gt_u (local.get $length) (i32.sub (local.get $end) (local.get $at)))
        (then (local.set $length (i32.sub (local.get $end) (local.get $at)))))
      (memory.copy
        (i32.add (i32.add (local.get $state) (i32.const 16)) (local.get $rest))
        (local.get $at)
        (local.get $length))
      (local.set $at (i32.add (local.get $at) (local.get $length)))
      (local.set $rest (i32.add (local.get $rest) (local.get $length)))
      (i32.store offset=32 (local.get $state) (local.get $rest))
      (if (i32.lt_u (local.get $rest) (i32.const 16)) (then (return)))
      (call $stripes
        (local.get $state)
        (i32.add (local.get $state) (i32.const 16))
        (i32.add (local.get $state) (i32.const 32)))))
    (local.set $rest (i32.and (i32.sub (local.get $end) (local.get $at)) (i32.const 15)))
    (local.set $end (i32.sub (local.get $end) (local.get $rest)))
    (call $stripes (local.get $state) (local.get $at) (local.get $end))
    (memory.copy (i32.add (local.get $state) (i32.const 16)) (local.get $end) (local.get $rest))
    (i32.store offset=32 (local.get $state) (local.get $rest)))

  ;; Whole stripes of 16 bytes.
  (func $stripes (param $state i32) (param $at i32) (param $end i32)
    (local $lane1 i32) (local $lane2 i32) (local $lane3 i32) (local $lane4 i32)
    (local.set $lane1 (i32.load (local.get $state)))
    (local.set $lane2 (i32.load offset=4 (local.get $state)))
    (local.set $lane3 (i32.load offset=8 (local.get $state)))
    (local.set $lane4 (i32.load offset=12 (local.get $state)))
    (block $done
      (loop $stripe
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $lane1 (i32.mul (i32.const 0x9e3779b1) (i32.rotl
          (i32.add (local.get $lane1) (i32.mul (i32.load (local.get $at)) (i32.const 0x85ebca77)))
          (i32.const 13))))
        (local.set $lane2 (i32.mul (i32.const 0x9e3779b1) (i32.rotl
          (i32.add (local.get $lane2) (i32.mul (i32.load offset=4 (local.get $at)) (i32.const 0x85ebca77)))
          (i32.const 13))))
        (local.set $lane3 (i32.mul (i32.const 0x9e3779b1) (i32.rotl
          (i32.add (local.get $lane3) (i32.mul (i32.load offset=8 (local.get $at)) (i32.const 0x85ebca77)))
          (i32.const 13))))
        (local.set $lane4 (i32.mul (i32.const 0x9e3779b1) (i32.rotl
          (i32.add (local.get $lane4) (i32.mul (i32.load offset=12 (local.get $at)) (i32.const 0x85ebca77)))
          (i32.const 13))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $stripe)))
    (i32.store (local.get $state) (local.get $lane1))
    (i32.store offset=4 (local.get $state) (local.get $lane2))
    (i32.store offset=8 (local.get $state) (local.get $lane3))
    (i32.store offset=12 (local.get $state) (local.get $lane4)))

  ;; Compresses into one block and gives its length, which is at most that of the content, a 255th of it and 16 more.
  ;; $table: 32 KiB for the places at which a hash was met last. Places count from the start of the memory, and the source
  ;; begins at 64 KiB or later: a place that is still 0 is too far away for a match, as is any that is 64 KiB back.
  (func (export "compress")
    (param $source i32) (param $sourceEnd i32) (param $destination i32) (param $table i32) (result i32)
    (local $ip i32) (local $op i32) (local $anchor i32) (local $match i32) (local $slot i32) (local $tries i32)
    (local $literals i32) (local $length i32) (local $offset i32) (local $end i32) (local $from i32)
    (local $lastStart i32) (local $lastEnd i32) (local $word i64)
    (local.set $ip (local.get $source))
    (local.set $anchor (local.get $source))
    (local.set $op (local.get $destination))
    ;; No match begins in the last 12 bytes or goes on in the last 5.
    (local.set $lastStart (i32.sub (local.get $sourceEnd) (i32.const 12)))
    (local.set $lastEnd (i32.sub (local.get $sourceEnd) (i32.const 5)))
    (memory.fill (local.get $table) (i32.const 0) (i32.const 32768))
    (block $end
      (loop $sequence
        ;; The longer nothing is found, the longer the steps: what does not compress is passed quickly.
        (local.set $tries (i32.const 64))
        (block $found
          (loop $search
            (br_if $end (i32.gt_s (local.get $ip) (local.get $lastStart)))
            (local.set $word (i64.load (local.get $ip)))
            ;; A hash of five bytes makes fewer and longer matches than one of four would. It is written out where it is used,
            ;; as is each minimum: calls would double the time.
            (local.set $slot (i32.add (local.get $table) (i32.and (i32.const 0x7ffc) (i32.wrap_i64 (i64.shr_u
              (i64.mul (i64.shl (local.get $word) (i64.const 24)) (i64.const 0x9e3779b97f4a7c15))
              (i64.const 49))))))
            (local.set $match (i32.load (local.get $slot)))
            (i32.store (local.get $slot) (local.get $ip))
            (if (i32.eq (i32.load (local.get $match)) (i32.wrap_i64 (local.get $word)))
              (then (br_if $found (i32.lt_u (i32.sub (local.get $ip) (local.get $match)) (i32.const 65536)))))
            (local.set $ip (i32.add (local.get $ip) (i32.shr_u (local.get $tries) (i32.const 6))))
            (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
            (br $search)))
        (local.set $offset (i32.sub (local.get $ip) (local.get $match)))
        (local.set $literals (i32.sub (local.get $ip) (local.get $anchor)))
        (local.set $end (i32.add (local.get $ip) (i32.const 4)))
        (local.set $from (i32.add (local.get $match) (i32.const 4)))
        ;; It may begin up to 8 bytes earlier. Computed, not tried byte by byte: what a processor cannot predict costs most.
        (local.set $length (i32.wrap_i64 (i64.shr_u
          (i64.clz (i64.xor
            (i64.load (i32.sub (local.get $ip) (i32.const 8)))
            (i64.load (i32.sub (local.get $match) (i32.const 8)))))
          (i64.const 3))))
        (local.set $length
          (select (local.get $length) (local.get $literals) (i32.lt_u (local.get $length) (local.get $literals))))
        (local.set $slot (i32.sub (local.get $match) (local.get $source)))
        (local.set $length
          (select (local.get $length) (local.get $slot) (i32.lt_u (local.get $length) (local.get $slot))))
        (local.set $literals (i32.sub (local.get $literals) (local.get $length)))
        (local.set $ip (i32.sub (local.get $ip) (local.get $length)))
        ;; How far it reaches, 8 bytes at a time.
        (block $differs
          (loop $same
            (local.set $word (i64.xor (i64.load (local.get $end)) (i64.load (local.get $from))))
            (br_if $differs (i64.ne (local.get $word) (i64.const 0)))
            (local.set $end (i32.add (local.get $end) (i32.const 8)))
            (local.set $from (i32.add (local.get $from) (i32.const 8)))
            (br_if $same (i32.lt_u (local.get $end) (local.get $lastEnd)))))
        (local.set $end (i32.add (local.get $end)
          (i32.shr_u (i32.wrap_i64 (i64.ctz (local.get $word))) (i32.const 3))))
        (local.set $end
          (select (local.get $end) (local.get $lastEnd) (i32.lt_u (local.get $end) (local.get $lastEnd))))
        (local.set $length (i32.sub (i32.sub (local.get $end) (local.get $ip)) (i32.const 4)))
        ;; Token, then literals.
        (i32.store8 (local.get $op) (i32.or
          (i32.shl
            (select (local.get $literals) (i32.const 15) (i32.lt_u (local.get $literals) (i32.const 15)))
            (i32.const 4))
          (select (local.get $length) (i32.const 15) (i32.lt_u (local.get $length) (i32.const 15)))))
        (local.set $op (i32.add (local.get $op) (i32.const 1)))
        (if (i32.lt_u (local.get $literals) (i32.const 15))
          (then
            (i64.store (local.get $op) (i64.load (local.get $anchor)))
            (i64.store offset=8 (local.get $op) (i64.load offset=8 (local.get $anchor))))
          (else
            (local.set $op (call $rest (local.get $op) (i32.sub (local.get $literals) (i32.const 15))))
            (memory.copy (local.get $op) (local.get $anchor) (local.get $literals))))
        (local.set $op (i32.add (local.get $op) (local.get $literals)))
        ;; Match.
        (i32.store16 (local.get $op) (local.get $offset))
        (local.set $op (i32.add (local.get $op) (i32.const 2)))
        (if (i32.ge_u (local.get $length) (i32.const 15))
          (then (local.set $op (call $rest (local.get $op) (i32.sub (local.get $length) (i32.const 15))))))
        (local.set $ip (local.get $end))
        (local.set $anchor (local.get $end))
        ;; Of what the match went over, one place is worth noting.
        (local.set $from (i32.sub (local.get $ip) (i32.const 2)))
        (i32.store
          (i32.add (local.get $table) (i32.and (i32.const 0x7ffc) (i32.wrap_i64 (i64.shr_u
            (i64.mul (i64.shl (i64.load (local.get $from)) (i64.const 24)) (i64.const 0x9e3779b97f4a7c15))
            (i64.const 49)))))
          (local.get $from))
        (br $sequence)))
    ;; The last sequence has literals only.
    (local.set $literals (i32.sub (local.get $sourceEnd) (local.get $anchor)))
    (i32.store8 (local.get $op) (i32.shl
      (select (local.get $literals) (i32.const 15) (i32.lt_u (local.get $literals) (i32.const 15)))
      (i32.const 4)))
    (local.set $op (i32.add (local.get $op) (i32.const 1)))
    (if (i32.ge_u (local.get $literals) (i32.const 15))
      (then (local.set $op (call $rest (local.get $op) (i32.sub (local.get $literals) (i32.const 15))))))
    (memory.copy (local.get $op) (local.get $anchor) (local.get $literals))
    (i32.sub (i32.add (local.get $op) (local.get $literals)) (local.get $destination)))

  ;; Writes the part of a length that does not fit into the token. Gives the place after it.
  (func $rest (param $op i32) (param $length i32) (result i32)
    (block $last
      (loop $more
        (br_if $last (i32.lt_u (local.get $length) (i32.const 255)))
        (i32.store8 (local.get $op) (i32.const 255))
        (local.set $op (i32.add (local.get $op) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 255)))
        (br $more)))
    (i32.store8 (local.get $op) (local.get $length))
    (i32.add (local.get $op) (i32.const 1))))
