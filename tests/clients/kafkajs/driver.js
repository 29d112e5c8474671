// kafkajs behind the line protocol of protocol.md.
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, AssignerProtocol, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')
const fzstd = require('fzstd')
const readline = require('readline')
const { setTimeout: sleep } = require('timers/promises')

const WAIT_S = 60
const NOISE_BYTES = 4099
const TYPES = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
  decompress: async buffer => Buffer.from(fzstd.decompress(buffer)),
})

class ClientError extends Error {
  constructor(name, text) {
    super(text)
    this.name = name
  }
}

function noise() {
  const made = Buffer.alloc(NOISE_BYTES)
  let x = 12345
  for (let at = 0; at < NOISE_BYTES; at++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff
    made[at] = (x >> 16) & 0xff
  }
  return made
}

const NOISE = noise()

const same = (a, b) => (a === null ? b === null : b !== null && a.equals(b))

class RecordSet {
  constructor({ seed, time_ms, size, mixed, partitions, null_headers }) {
    Object.assign(this, { seed, timeMs: time_ms, size, mixed, partitions })
    this.nullHeader = null_headers ? null : Buffer.from('-')
    this.noise = Buffer.concat(Array(Math.floor(size / NOISE_BYTES) + 2).fill(NOISE))
  }

  value(index) {
    if (this.mixed && index % 10 === 7) return null
    const start = Buffer.from(`${this.seed}:${index}:`)
    const at = index % NOISE_BYTES
    const left = this.size + (index % 17) - start.length
    return left > 0 ? Buffer.concat([start, this.noise.subarray(at, at + left)]) : start
  }

  key(index) {
    return this.mixed && index % 10 === 3 ? null : Buffer.from(`k${index % 97}`)
  }

  headers(index) {
    return this.mixed && index % 10 === 5 ? { n: Buffer.from(`${index}`), empty: Buffer.alloc(0), null: this.nullHeader } : {}
  }
}

function sameHeaders(a, b) {
  const names = Object.keys(b)
  return Object.keys(a).length === names.length && names.every(name => name in a && same(a[name], b[name]))
}

class Told {
  constructor(records) {
    this.records = records
    this.clear()
  }

  clear() {
    Object.assign(this, { runs: [], mismatches: [], count: 0, open: new Map() })
  }

  place(partition, stint, offset, index) {
    this.count++
    const run = this.open.get(partition)
    if (run && run[1] === stint && offset === run[2] + run[4] && index === run[3] + run[4] * this.records.partitions) {
      run[4]++
      return
    }
    const begun = [partition, stint, offset, index, 1]
    this.open.set(partition, begun)
    this.runs.push(begun)
  }

  read(partition, stint, { offset, timestamp, key, value, headers }) {
    const records = this.records
    const index = Number(timestamp) - records.timeMs
    const right = same(key, records.key(index)) && same(value, records.value(index)) &&
      sameHeaders(headers, records.headers(index)) && partition === index % records.partitions
    if (!right && this.mismatches.length < 5) {
      this.mismatches.push(`partition ${partition} offset ${offset} isn't record ${index}`)
    }
    this.place(partition, stint, Number(offset), index)
  }

  answer() {
    const { runs, mismatches, count } = this
    this.clear()
    return { runs, mismatches, count }
  }
}

const kafka = ({ at }, retries = 5) => new Kafka({
  brokers: at.split(','), logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, maxRetryTime: 500, retries },
})

// The range assignor of the other clients: kafkajs comes with a round robin under a name of its own.
const range = ({ cluster }) => ({
  name: 'range',
  version: 0,
  protocol({ topics }) {
    return { name: 'range', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }) }
  },
  async assign({ members, topics }) {
    const ids = members.map(({ memberId }) => memberId).sort()
    return ids.map((memberId, at) => {
      const assignment = {}
      for (const topic of topics) {
        const partitions = cluster.findTopicPartitionMetadata(topic).map(each => each.partitionId).sort((a, b) => a - b)
        const each = Math.floor(partitions.length / ids.length)
        const more = partitions.length % ids.length
        const from = each * at + Math.min(at, more)
        assignment[topic] = partitions.slice(from, from + each + (at < more ? 1 : 0))
      }
      return { memberId, memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment, userData: Buffer.alloc(0) }) }
    })
  },
})

// Both a reader and a member: kafkajs knows only consumers in groups. A reader takes batches only while `read` waits.
class Consuming {
  constructor(request, { group, always }) {
    this.told = new Told(new RecordSet(request.set))
    this.topic = request.topic
    this.wanted = always ? Infinity : 0
    this.stint = new Map()
    this.owned = []
    this.paused = new Set()
    this.error = ''
    this.joined = new Promise(resolve => { this.hasJoined = resolve })
    this.consumer = kafka(request, always ? 30 : 5).consumer({
      groupId: group, partitionAssigners: [range], sessionTimeout: request.session_ms || 10000, heartbeatInterval: 300,
      rebalanceTimeout: 10000, maxWaitTimeInMs: 100, allowAutoTopicCreation: false,
      ...(request.bytes_max ? { maxBytesPerPartition: request.bytes_max } : {}),
      retry: { initialRetryTime: 50, maxRetryTime: 500, retries: always ? 30 : 5, restartOnFailure: async () => always },
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = payload.memberAssignment[this.topic] || []
      for (const partition of this.owned) this.stint.set(partition, (this.stint.get(partition) || 0) + 1)
      this.hasJoined()
    })
    this.consumer.on(this.consumer.events.REBALANCING, () => { this.owned = [] })
    this.consumer.on(this.consumer.events.CRASH, ({ payload }) => {
      this.error = String(payload.error)
      this.crash = payload.error
      if (!payload.restart) this.hasJoined()
    })
  }

  async start(fromBeginning, autoCommit) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning })
    await this.consumer.run({
      autoCommit, autoCommitInterval: 200, partitionsConsumedConcurrently: 1, eachBatchAutoResolve: false,
      eachBatch: batch => this.batch(batch),
    })
  }

  async batch({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, isRunning, isStale }) {
    const stint = this.stint.get(batch.partition) || 0
    for (const message of batch.messages) {
      while (this.told.count >= this.wanted && isRunning() && !isStale()) {
        await heartbeat()
        await sleep(10)
      }
      if (!isRunning() || isStale() || this.paused.has(batch.partition) || stint !== (this.stint.get(batch.partition) || 0)) return
      this.told.read(batch.partition, stint, message)
      resolveOffset(message.offset)
    }
    await heartbeat()
    if (this.wanted === Infinity) await commitOffsetsIfNecessary()
  }

  async read(count, timeoutS) {
    this.wanted = count
    const deadline = Date.now() + timeoutS * 1000
    while (this.told.count < count) {
      if (this.crash) throw this.crash
      if (Date.now() > deadline) throw new ClientError('Timeout', `${this.told.count} of ${count} records came`)
      await sleep(5)
    }
    this.wanted = 0
    return this.told.answer()
  }
}

const NOTHING = 'NothingSent'
const LOST = [
  'KafkaJSConnectionClosedError', 'KafkaJSConnectionError', 'KafkaJSNumberOfRetriesExceeded', 'KafkaJSBrokerNotFound', NOTHING,
]

// What the retries gave up with, and of several errors the first.
function innermost(error) {
  while (error.cause instanceof Error || (error.errors && error.errors.length)) error = error.cause || error.errors[0]
  return error
}

// kafkajs hands a lost connection to its caller, also as an error that it calls not retriable, where it was lost while
// kafkajs asked for a producer id or for metadata.
async function untilTaken(attempt) {
  const deadline = Date.now() + WAIT_S * 1000
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > deadline || !LOST.includes(innermost(error).name)) throw error
    }
    await sleep(100)
  }
}

// Sent again unchanged, an idempotent producer's batch keeps its sequence.
const sendUntilTaken = (producer, batch) => untilTaken(async () => {
  const answers = await producer.send(batch)
  if (!answers.length) throw new ClientError(NOTHING, 'a send came back with nothing')
  return answers
})

const readers = new Map()
const members = new Map()
const reader = ({ reader }) => readers.get(reader)
const onTopic = (consuming, partitions) => [{ topic: consuming.topic, partitions }]

async function asAdmin(request, ask) {
  const admin = kafka(request).admin()
  await admin.connect()
  try {
    return await ask(admin)
  } finally {
    await admin.disconnect()
  }
}

const byPartition = (found, what) => Object.fromEntries(found.map(each => [each.partition, what(each)]))
const topicResource = ({ topic }) => ({ type: ConfigResourceTypes.TOPIC, name: topic })

const ADMIN = {
  create: ({ topic, partitions, configs }) => async admin => {
    const configEntries = Object.entries(configs || {}).map(([name, value]) => ({ name, value }))
    const made = await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] })
    if (!made) throw new ClientError('TOPIC_ALREADY_EXISTS', 'createTopics answered false')
    return null
  },
  partitions: ({ topic }) => async admin =>
    (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length,
  grow: ({ topic, partitions }) => async admin => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: partitions }] })
    return null
  },
  alter: request => async admin => {
    const resource = { ...topicResource(request), configEntries: [{ name: request.key, value: request.value }] }
    await admin.alterConfigs({ validateOnly: false, resources: [resource] })
    return null
  },
  config: request => async admin => {
    const { resources } = await admin.describeConfigs({ resources: [topicResource(request)], includeSynonyms: false })
    return resources[0].configEntries.find(each => each.configName === request.key).configValue
  },
  delete: ({ topic }) => async admin => {
    await admin.deleteTopics({ topics: [topic], timeout: 10000 })
    return null
  },
  groups: ({ group }) => async admin => (await admin.listGroups()).groups.some(each => each.groupId === group),
  committed: ({ group, topic }) => async admin => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return byPartition(partitions, each => Number(each.offset))
  },
  delete_group: ({ group }) => async admin => {
    await admin.deleteGroups([group])
    return null
  },
  truncate: ({ topic, partition, offset }) => async admin => {
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
    return null
  },
}

const COMMANDS = {
  version: async () => ({ client: 'kafkajs', version: require('kafkajs/package.json').version }),

  async produce(request) {
    const told = new Told(new RecordSet(request.set))
    const { records } = told
    const { topic, first, count, per_s: perS = 0 } = request
    const producer = kafka(request, 100).producer({
      idempotent: request.idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: false, metadataMaxAge: 1000,
      createPartitioner: () => ({ message }) => message.partition,
    })
    await untilTaken(() => producer.connect())
    const began = Date.now()
    const most = Math.max(1, Math.min(perS ? 50 : 3000, Math.floor(8e6 / records.size)))
    try {
      for (let from = 0; from < count; from += most) {
        if (perS) await sleep(Math.max(0, (from / perS) * 1000 - (Date.now() - began)))
        const messages = []
        for (let number = from; number < Math.min(count, from + most); number++) {
          const index = first + number
          messages.push({
            partition: index % records.partitions, timestamp: String(records.timeMs + index), key: records.key(index),
            value: records.value(index), headers: records.headers(index),
          })
        }
        // one partition at a time: of a send to several agents a part may succeed, and would be sent again with the rest
        for (let partition = 0; partition < records.partitions; partition++) {
          const own = messages.filter(each => each.partition === partition)
          if (!own.length) continue
          const batch = { topic, acks: -1, compression: TYPES[request.codec], messages: own }
          const [{ baseOffset }] = await sendUntilTaken(producer, batch)
          own.forEach(({ timestamp }, at) => told.place(partition, 0, Number(baseOffset) + at, Number(timestamp) - records.timeMs))
        }
      }
    } finally {
      await producer.disconnect()
    }
    return told.answer()
  },

  async send(request) {
    const producer = kafka(request, 2).producer({
      allowAutoTopicCreation: false, createPartitioner: () => ({ message }) => message.partition,
    })
    await producer.connect()
    try {
      const messages = [{ partition: request.partition || 0, value: Buffer.alloc(request.bytes) }]
      const [answer] = await producer.send({ topic: request.topic, acks: -1, messages })
      return { offset: Number(answer.baseOffset) }
    } finally {
      await producer.disconnect()
    }
  },

  async open(request) {
    const opened = new Consuming(request, { group: `reader-${request.topic}-${process.pid}-${readers.size}-${Date.now()}`, always: false })
    readers.set(request.reader, opened)
    await opened.start(request.reset !== 'latest', false)
    await opened.joined
    return {}
  },
  async seek(request) {
    const seeking = reader(request)
    for (const [partition, offset] of Object.entries(request.offsets)) {
      seeking.stint.set(Number(partition), (seeking.stint.get(Number(partition)) || 0) + 1)
      seeking.consumer.seek({ topic: seeking.topic, partition: Number(partition), offset: String(offset) })
    }
    return {}
  },
  read: request => reader(request).read(request.count, request.timeout_s || WAIT_S),
  async pause(request) {
    for (const each of request.partitions) reader(request).paused.add(each)
    reader(request).consumer.pause(onTopic(reader(request), request.partitions))
    return {}
  },
  async resume(request) {
    for (const each of request.partitions) reader(request).paused.delete(each)
    reader(request).consumer.resume(onTopic(reader(request), request.partitions))
    return {}
  },
  async close(request) {
    const closing = reader(request)
    readers.delete(request.reader)
    closing.wanted = 0
    await closing.consumer.disconnect()
    return {}
  },
  times: request => asAdmin(request, async admin => {
    const found = {}
    const ends = byPartition(await admin.fetchTopicOffsets(request.topic), each => each.high)
    for (const [partition, ms] of Object.entries(request.times)) {
      const listed = await admin.fetchTopicOffsetsByTimestamp(request.topic, ms)
      const offset = listed.find(each => each.partition === Number(partition)).offset
      found[partition] = offset === ends[partition] ? -1 : Number(offset) // it tells the end where nothing is that late
    }
    return found
  }),
  ends: request => asAdmin(request, async admin => {
    const listed = await admin.fetchTopicOffsets(request.topic)
    return byPartition(listed.filter(each => each.partition < request.partitions), each => [Number(each.low), Number(each.high)])
  }),

  async join(request) {
    if (request.instance) throw new ClientError('NoSuchCall', 'static membership')
    if (request.cooperative) throw new ClientError('NoSuchCall', 'cooperative assignment')
    const joining = new Consuming(request, { group: request.group, always: true })
    members.set(request.member, joining)
    await joining.start(true, true)
    return {}
  },
  async owned({ member }) {
    const { owned, told, error } = members.get(member)
    return { owned: [...owned].sort((a, b) => a - b), count: told.count, error }
  },
  async leave({ member }) {
    const leaving = members.get(member)
    members.delete(member)
    await leaving.consumer.disconnect()
    return { ...leaving.told.answer(), error: leaving.error }
  },

  admin(request) {
    if (!(request.call in ADMIN)) throw new ClientError('NoSuchCall', request.call)
    return asAdmin(request, ADMIN[request.call](request))
  },
}

function told(error) {
  const inner = innermost(error)
  return { name: inner.type || inner.name, code: Number.isInteger(inner.code) ? inner.code : null, text: inner.message }
}

async function main() {
  await zstd.init()
  process.on('unhandledRejection', error => process.stderr.write(`${error.stack}\n`))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer
    try {
      const request = JSON.parse(line)
      answer = { ok: await COMMANDS[request.do](request) }
    } catch (error) {
      process.stderr.write(`${error.stack}\n`)
      answer = { error: told(error) }
    }
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
  process.exit(0)
}

main()
