// The checks of kafkajs: see family.py. NODE_PATH has kafkajs and the packages that give it codecs.
'use strict'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, PartitionAssigners, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')
const { address, family, base, record, same, checkMessage, sleep, eventually, fails, run } = require('./records')

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const quiet = { logLevel: logLevel.NOTHING }
const kafka = new Kafka({ clientId: 'kafkajs', brokers: [address], ...quiet })
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)
const groupOptions = { sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 20000, maxWaitTimeInMs: 100, allowAutoTopicCreation: false }

async function write(topic, partitions, from, to, options = {}, producerOptions = {}) {
  const p = kafka.producer({ allowAutoTopicCreation: false, ...producerOptions })
  await p.connect()
  try {
    for (let n = from; n < to; n += 20) {
      const messages = range(n, Math.min(n + 20, to)).flatMap(i => range(0, partitions).map(part => record(part, i)))
      const answers = await p.send({ topic, messages, ...options })
      for (const a of options.acks === 0 ? [] : answers) same('offset', String(n), a.baseOffset)
    }
  } finally {
    await p.disconnect()
  }
}

// kafkajs reads only as a group: one member that reads everything.
async function readAll(topic, partitions, count) {
  const c = kafka.consumer({ ...groupOptions, groupId: `${topic}-reader` })
  const next = range(0, partitions).map(() => 0)
  let failed = null
  await c.connect()
  try {
    await c.subscribe({ topics: [topic], fromBeginning: true })
    await c.run({ eachMessage: async ({ partition, message }) => {
      try {
        checkMessage(partition, message, next[partition]++)
      } catch (e) {
        failed = failed || e
      }
    } })
    await eventually(() => `${topic}: only ${next} came`, () => failed || next.every(n => n >= count), 60)
    await sleep(150)
    if (failed) throw failed
    same('records', range(0, partitions).map(() => count), next)
  } finally {
    await c.disconnect()
  }
  await withAdmin(async a => {
    const offsets = await a.fetchTopicOffsets(topic)
    same('offsets', range(0, partitions).map(() => ['0', String(count)]), offsets.sort((x, y) => x.partition - y.partition).map(o => [o.low, o.high]))
  })
}

async function withAdmin(work) {
  const a = kafka.admin()
  await a.connect()
  try {
    return await work(a)
  } finally {
    await a.disconnect()
  }
}

async function data(codec) {
  const topic = `${family}-data-${codec}`
  await write(topic, 3, 0, 100, { acks: -1, compression: codecs[codec] })
  await readAll(topic, 3, 100)
}

async function acks() {
  const topic = `${family}-acks`
  for (const [k, level] of [0, 1, -1].entries()) {
    await write(topic, 1, 10 * k, 10 * k + 10, { acks: level })
    await sleep(200) // nobody tells when acks=0 is in; the next producer must come later
  }
  await readAll(topic, 1, 30)
}

async function idempotent() {
  await write(`${family}-idempotent`, 1, 0, 200, {}, { idempotent: true, maxInFlightRequests: 1 })
  await readAll(`${family}-idempotent`, 1, 200)
}

async function groupShare() {
  const topic = `${family}-share`
  const read = new Map()
  const assigned = new Map()
  let failed = null
  const members = []
  for (let i = 0; i < 3; i++) {
    const name = `${family}-m${i}`
    const k = new Kafka({ clientId: name, brokers: [address], ...quiet })
    const c = k.consumer({ ...groupOptions, groupId: topic, partitionAssigners: [PartitionAssigners.roundRobin] })
    c.on(c.events.GROUP_JOIN, e => assigned.set(name, new Set(e.payload.memberAssignment[topic] || [])))
    c.on(c.events.CRASH, e => { if (!e.payload.restart) failed = e.payload.error })
    members.push({ name, c })
  }
  await Promise.all(members.map(async ({ name, c }) => {
    await c.connect()
    await c.subscribe({ topics: [topic], fromBeginning: true })
    await c.run({ autoCommit: false, eachMessage: async ({ partition, message }) => {
      try {
        checkMessage(partition, message, Number(message.offset))
      } catch (e) {
        failed = failed || e
      }
      // Throws when a rebalance came between: then it is not counted, and whoever has the partition next reads it again.
      await c.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }])
      const id = `${partition}/${message.offset}`
      read.set(id, (read.get(id) || 0) + 1)
    } })
  }))
  const shared = count => {
    if (failed) throw failed
    const sets = [...assigned.values()]
    return sets.length === count && sets.every(s => s.size === 6 / count) && new Set(sets.flatMap(s => [...s])).size === 6
  }
  const tell = () => JSON.stringify([...assigned].map(([k, v]) => [k, [...v]]))
  const verify = count => {
    for (const p of range(0, 6)) for (const n of range(0, count)) same(`times that ${p}/${n} was read`, 1, read.get(`${p}/${n}`))
    same('records', 6 * count, read.size)
  }
  try {
    await eventually(() => `three members share; they have ${tell()}`, () => shared(3), 60)
    await eventually('all was read', () => shared(3) && read.size >= 6 * 50)
    verify(50)
    const [gone] = members.splice(1, 1)
    await gone.c.disconnect()
    assigned.delete(gone.name)
    await eventually(() => `two members share; they have ${tell()}`, () => shared(2), 60)
    await write(topic, 6, 50, 70)
    await eventually('what came later was read', () => shared(2) && read.size >= 6 * 70)
  } finally {
    await Promise.all(members.map(m => m.c.disconnect()))
  }
  verify(70)
}

async function groupResume() {
  const topic = `${family}-resume`
  const next = [0, 0]
  let failed = null
  const read = async until => {
    const c = kafka.consumer({ ...groupOptions, groupId: topic })
    await c.connect()
    await c.subscribe({ topics: [topic], fromBeginning: true })
    await c.run({ autoCommit: false, eachMessage: async ({ partition, message }) => {
      try {
        if (next[partition] < until || until === 100) checkMessage(partition, message, next[partition]++)
      } catch (e) {
        failed = failed || e
      }
    } })
    await eventually(() => `only ${next} came`, () => failed || next.every(n => n >= until), 60)
    if (failed) throw failed
    return c
  }
  let c = await read(40)
  await c.commitOffsets([0, 1].map(p => ({ topic, partition: p, offset: String(40 + p), metadata: `note ${p}` })))
  await c.disconnect()
  next[0] = 40
  next[1] = 41
  c = await read(100)
  await c.disconnect()
  await withAdmin(async a => {
    const [found] = await a.fetchOffsets({ groupId: topic, topics: [topic] })
    found.partitions.sort((x, y) => x.partition - y.partition)
    same('committed', [['40', 'note 0'], ['41', 'note 1']], found.partitions.map(p => [p.offset, p.metadata]))
    await a.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '7' }] })
    const [again] = await a.fetchOffsets({ groupId: topic, topics: [topic] })
    same('set by the administrator', '7', again.partitions.find(p => p.partition === 0).offset)
  })
}

async function groupAdmin() {
  const group = `${family}-admin`
  await withAdmin(async a => {
    const k = new Kafka({ clientId: 'the-member', brokers: [address], ...quiet })
    const c = k.consumer({ ...groupOptions, groupId: group })
    await c.connect()
    await c.subscribe({ topics: [group], fromBeginning: true })
    await c.run({ eachMessage: async () => {} })
    const describe = async () => (await a.describeGroups([group])).groups[0]
    await eventually('the group is stable', async () => (await describe()).state === 'Stable', 60)
    same('members', ['the-member'], (await describe()).members.map(m => m.clientId))
    same('its kind in the list', 'consumer', (await a.listGroups()).groups.find(g => g.groupId === group).protocolType)
    await fails('NON_EMPTY_GROUP', () => a.deleteGroups([group]))
    await c.disconnect()
    await eventually('the group is empty', async () => (await describe()).state === 'Empty', 20)
    await a.deleteGroups([group])
    await fails('GROUP_ID_NOT_FOUND', () => a.deleteGroups([group]))
    same('still in the list', undefined, (await a.listGroups()).groups.find(g => g.groupId === group))
  })
}

async function topics() {
  const name = `${family}-made`
  await withAdmin(async a => {
    const wish = { topic: name, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '123456' }] }
    same('created', true, await a.createTopics({ topics: [wish] }))
    same('created again', false, await a.createTopics({ topics: [wish] }))
    const config = async key => {
      const answer = await a.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name }] })
      return answer.resources[0].configEntries.find(e => e.configName === key).configValue
    }
    same('retention.ms', '123456', await config('retention.ms'))
    await a.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] })
    await eventually('four partitions', async () => (await a.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length === 4, 20)
    await a.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name, configEntries: [{ name: 'max.message.bytes', value: '54321' }] }] })
    same('max.message.bytes', '54321', await config('max.message.bytes'))
    if ((await config('retention.ms')) === '123456') throw new Error('AlterConfigs kept what it does not name')
    await write(name, 1, 0, 20)
    await a.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '10' }] })
    same('low after records were deleted', '10', (await a.fetchTopicOffsets(name)).find(p => p.partition === 0).low)
    same('listed', true, (await a.listTopics()).includes(name))
    same('cluster', 1, (await a.describeCluster()).brokers.length)
    await a.deleteTopics({ topics: [name] })
    await eventually('it is gone', async () => !(await a.listTopics()).includes(name), 20)
    await fails('UNKNOWN_TOPIC_OR_PARTITION', () => a.deleteTopics({ topics: [name] }))
  })
}

async function times() {
  const topic = `${family}-times`
  await withAdmin(async a => {
    for (const [ask, offset] of [[base, 0], [base + 500, 50], [base + 501, 51], [1, 0], [base + 1000, 100]]) { // later than all: the end
      same(`offset for ${ask - base}`, [{ partition: 0, offset: String(offset) }], await a.fetchTopicOffsetsByTimestamp(topic, ask))
    }
  })
  const c = kafka.consumer({ ...groupOptions, groupId: topic })
  const got = []
  await c.connect()
  try {
    await c.subscribe({ topics: [topic], fromBeginning: true })
    await c.run({ autoCommit: false, eachMessage: async ({ message }) => { got.push(message) } })
    for (const at of [70, 0, 99]) {
      await eventually('earlier records', () => got.length > 0, 60)
      c.seek({ topic, partition: 0, offset: String(at) })
      await eventually(`the record at ${at} after a seek`, () => got.some((m, i) => m.offset === String(at) && i > 0) || got.length === 0)
      checkMessage(0, got.find(m => m.offset === String(at)), at)
    }
  } finally {
    await c.disconnect()
  }
}

async function unknownTopic() {
  await fails('UNKNOWN_TOPIC_OR_PARTITION', () => write(`${family}-nowhere`, 1, 0, 1, {}, { retry: { retries: 1 } }))
  await withAdmin(a => fails('UNKNOWN_TOPIC_OR_PARTITION', () => a.fetchTopicMetadata({ topics: [`${family}-nowhere`] })))
}

async function main() {
  await zstd.init()
  const checks = { 'group-share': groupShare, 'group-resume': groupResume, 'group-admin': groupAdmin, topics, times, 'unknown-topic': unknownTopic, acks, idempotent }
  for (const codec of Object.keys(codecs)) {
    checks[`data-${codec}`] = () => data(codec)
    checks[`peer-${codec}`] = () => readAll(`${family}-peer-${codec}`, 2, 60)
  }
  await run(checks)
  process.exit(0)
}

main().catch(e => { console.error(e); process.exit(1) })
