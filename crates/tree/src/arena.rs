//! Storage of znodes: one heap block each, found by a small id.
//!
//! Owns the blocks, the free ids and the links between siblings. It knows nothing of paths. Blocks
//! stand in chunks that an image shares: whoever changes a chunk or a block that is shared copies it
//! first, so an image never sees a change.
//!
//! A block is, little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | shape (2 bits), null data, long name, wide ACL key |
//! | 4 | id of the parent |
//! | 4 | share in the digest of the tree |
//! | 2 or 4 | ACL key |
//! | 1 or 4 | length of the name |
//! | 13, 21 or 68 | stat, by shape; see [`Shape`] |
//! | … | name |
//! | … | data |

use crate::acl_table::AclKey;
use crate::gathering::Gathering;
use farrier_proto::Zxid;
use farrier_proto::stat::StatPersisted;
use smallvec::SmallVec;
use std::sync::Arc;

/// A znode's place in the arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    /// The root, which always exists.
    pub(crate) const ROOT: Self = Self(0);
    /// No znode.
    pub(crate) const NIL: Self = Self(u32::MAX);

    fn place(self) -> (usize, usize) {
        (self.0 as usize / CHUNK, self.0 as usize % CHUNK)
    }
}

/// Blocks per chunk: with the counts of its `Arc`, a chunk fills a page.
const CHUNK: usize = 255;
/// Links per piece: a page.
const LINKS: usize = 512;
/// Offset of the parent's id.
const PARENT_AT: usize = 1;
/// Offset of the share in the digest.
const SHARE_AT: usize = 5;
/// Offset of the ACL key.
const ACL_AT: usize = 9;
/// Offset of the first child's id in a full stat; the number of children follows.
const FIRST_CHILD_AT: usize = 60;
/// Bytes of a full stat.
const FULL_LEN: usize = 68;
/// Znodes whose memory is fetched together: more than a processor has on their way at a time.
pub(crate) const FORESEEN: usize = 32;
/// Bytes that a processor fetches together.
const LINE: usize = 64;
/// Of a large block, so many are fetched ahead; the rest is read or written one after the other anyway.
const LINES_FORESEEN: usize = 4;
/// A scratch buffer that grew beyond this for one large znode is given back.
const SCRATCH_MAX: usize = 1 << 16;

/// How much of the stat a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// Created and never changed, without owner: czxid (56 bits) and ctime (48 bits) tell the rest.
    Leaf,
    /// The same with an owner.
    OwnedLeaf,
    /// Everything.
    Full,
}

impl Shape {
    const BITS: u8 = 0b11;

    const fn bits(self) -> u8 {
        match self {
            Self::Leaf => 0,
            Self::OwnedLeaf => 1,
            Self::Full => 2,
        }
    }

    const fn stat_len(self) -> usize {
        match self {
            Self::Leaf => 13,
            Self::OwnedLeaf => 21,
            Self::Full => FULL_LEN,
        }
    }

    fn of(fields: &Fields) -> Self {
        let s = &fields.stat;
        let untouched = s.mzxid == s.czxid
            && s.pzxid == s.czxid
            && s.mtime == s.ctime
            && (s.version, s.cversion, s.aversion) == (0, 0, 0)
            && fields.first_child == NodeId::NIL
            && fields.child_count == 0
            && s.czxid.get() >> 56 == 0
            && s.ctime.cast_unsigned() >> 48 == 0;
        match (untouched, s.ephemeral_owner) {
            (true, 0) => Self::Leaf,
            (true, _) => Self::OwnedLeaf,
            (false, _) => Self::Full,
        }
    }
}

const NULL_DATA: u8 = 1 << 2;
const LONG_NAME: u8 = 1 << 3;
const WIDE_ACL: u8 = 1 << 4;

/// The part of a znode that has a fixed size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) stat: StatPersisted,
    /// What the znode adds to the digest of the tree. Whoever changes stat or data sets it.
    pub(crate) share: u32,
    pub(crate) first_child: NodeId,
    pub(crate) child_count: u32,
}

impl Fields {
    pub(crate) const fn childless(stat: StatPersisted, share: u32) -> Self {
        Self { stat, share, first_child: NodeId::NIL, child_count: 0 }
    }

    fn put(&self, shape: Shape, out: &mut Vec<u8>) {
        let s = &self.stat;
        if shape != Shape::Full {
            out.extend_from_slice(&s.czxid.get().to_le_bytes()[..7]);
            out.extend_from_slice(&s.ctime.to_le_bytes()[..6]);
            if shape == Shape::OwnedLeaf {
                out.extend_from_slice(&s.ephemeral_owner.to_le_bytes());
            }
            return;
        }
        out.extend_from_slice(&self.full());
    }

    /// The stat in the shape that holds everything.
    fn full(&self) -> [u8; FULL_LEN] {
        let s = &self.stat;
        let mut bytes = [0; FULL_LEN];
        let owner = s.ephemeral_owner.cast_unsigned();
        let longs =
            [s.czxid.get(), s.ctime.cast_unsigned(), owner, s.mzxid.get(), s.mtime.cast_unsigned(), s.pzxid.get()];
        let (long, short) = bytes.split_at_mut(8 * longs.len());
        for (to, value) in long.chunks_exact_mut(8).zip(longs) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        let versions = [s.version, s.cversion, s.aversion].map(i32::cast_unsigned);
        let words = versions.into_iter().chain([self.first_child.0, self.child_count]);
        for (to, value) in short.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

/// The little-endian number in the `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    number::<8>(bytes, at).cast_signed()
}

fn zxid_at(bytes: &[u8], at: usize) -> Zxid {
    Zxid::from_wire(i64_at(bytes, at))
}

/// One znode.
#[derive(Clone, Debug)]
pub(crate) struct Block(Arc<[u8]>);

impl Block {
    /// A block apart from any arena, of a childless znode: without a parent, and with the open list.
    /// [`Arena::insert_loose`] fills these in. `scratch` is any buffer, to be used again.
    pub(crate) fn loose(scratch: &mut Vec<u8>, name: &str, fields: &Fields, data: Option<&[u8]>) -> Self {
        encode(scratch, NodeId::NIL, name, AclKey::OPEN, fields, data)
    }

    /// Bytes of its own.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Something of the counts and of each of the first lines of memory behind them.
    pub(crate) fn look(&self) -> usize {
        let first = &self.0[..self.0.len().min(LINES_FORESEEN * LINE)];
        let bytes = first.iter().step_by(LINE).chain(first.last());
        bytes.fold(Arc::strong_count(&self.0), |seen, byte| seen ^ usize::from(*byte))
    }

    fn shape(&self) -> Shape {
        match self.0[0] & Shape::BITS {
            0 => Shape::Leaf,
            1 => Shape::OwnedLeaf,
            _ => Shape::Full,
        }
    }

    const fn name_len_at(flags: u8) -> usize {
        ACL_AT + if flags & WIDE_ACL == 0 { 2 } else { 4 }
    }

    fn stat_at(&self) -> usize {
        let flags = self.0[0];
        Self::name_len_at(flags) + if flags & LONG_NAME == 0 { 1 } else { 4 }
    }

    fn name_range(&self) -> std::ops::Range<usize> {
        let flags = self.0[0];
        let at = Self::name_len_at(flags);
        let len = if flags & LONG_NAME == 0 { usize::from(self.0[at]) } else { u32_at(&self.0, at) as usize };
        let start = self.stat_at() + self.shape().stat_len();
        start..start + len
    }

    pub(crate) fn acl(&self) -> AclKey {
        AclKey::from_bits(if self.0[0] & WIDE_ACL == 0 {
            u32::from(u16::from_le_bytes([self.0[ACL_AT], self.0[ACL_AT + 1]]))
        } else {
            u32_at(&self.0, ACL_AT)
        })
    }

    pub(crate) fn parent(&self) -> NodeId {
        NodeId(u32_at(&self.0, PARENT_AT))
    }

    pub(crate) fn share(&self) -> u32 {
        u32_at(&self.0, SHARE_AT)
    }

    pub(crate) fn name_bytes(&self) -> &[u8] {
        &self.0[self.name_range()]
    }

    pub(crate) fn name(&self) -> &str {
        std::str::from_utf8(self.name_bytes()).expect("names are stored from text")
    }

    pub(crate) fn data(&self) -> Option<&[u8]> {
        if self.0[0] & NULL_DATA != 0 { None } else { Some(&self.0[self.name_range().end..]) }
    }

    pub(crate) fn data_len(&self) -> usize {
        self.0.len() - self.name_range().end
    }

    pub(crate) fn fields(&self) -> Fields {
        let shape = self.shape();
        let b = &self.0[self.stat_at()..][..shape.stat_len()];
        // One length for the compiler, which then needs no check for any of the fields.
        if let (Shape::Full, Some(b)) = (shape, b.first_chunk::<FULL_LEN>()) {
            let stat = StatPersisted {
                czxid: zxid_at(b, 0),
                mzxid: zxid_at(b, 24),
                ctime: i64_at(b, 8),
                mtime: i64_at(b, 32),
                version: u32_at(b, 48).cast_signed(),
                cversion: u32_at(b, 52).cast_signed(),
                aversion: u32_at(b, 56).cast_signed(),
                ephemeral_owner: i64_at(b, 16),
                pzxid: zxid_at(b, 40),
            };
            let (first_child, child_count) = (NodeId(u32_at(b, FIRST_CHILD_AT)), u32_at(b, FIRST_CHILD_AT + 4));
            return Fields { stat, share: self.share(), first_child, child_count };
        }
        let owner = if shape == Shape::OwnedLeaf { i64_at(b, 13) } else { 0 };
        let czxid = Zxid::from_wire(number::<7>(b, 0).cast_signed());
        let ctime = number::<6>(b, 7).cast_signed();
        let stat = StatPersisted {
            czxid,
            mzxid: czxid,
            ctime,
            mtime: ctime,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner,
            pzxid: czxid,
        };
        Fields::childless(stat, self.share())
    }

    pub(crate) fn first_child(&self) -> NodeId {
        if self.shape() == Shape::Full { NodeId(u32_at(&self.0, self.stat_at() + FIRST_CHILD_AT)) } else { NodeId::NIL }
    }

    pub(crate) fn child_count(&self) -> u32 {
        if self.shape() == Shape::Full { u32_at(&self.0, self.stat_at() + FIRST_CHILD_AT + 4) } else { 0 }
    }
}

/// 255 places; a place is empty when its id is free.
#[derive(Clone, Debug)]
pub(crate) struct Chunk([Option<Block>; CHUNK]);

impl Chunk {
    const EMPTY: Self = Self([const { None }; CHUNK]);
}

/// Chunks, as tree and images share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunks(Vec<Arc<Chunk>>);

impl Chunks {
    pub(crate) fn get(&self, id: NodeId) -> Option<&Block> {
        let (chunk, slot) = id.place();
        self.0.get(chunk)?.0[slot].as_ref()
    }

    /// Ids that were ever in use, live or free.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.0.len() * CHUNK).expect("ids are 32 bits")).map(NodeId)
    }

    /// Puts `block` at `id`, behind all that were put before.
    pub(crate) fn extend(&mut self, id: NodeId, block: Option<Block>) {
        let (chunk, slot) = id.place();
        if chunk == self.0.len() {
            self.0.push(Arc::new(Chunk::EMPTY));
        }
        Arc::get_mut(&mut self.0[chunk]).expect("nobody else has what is being made").0[slot] = block;
    }
}

/// Neighbours among the children of one parent. The first child's `prev` is the last child, which
/// makes appending cheap; the last child's `next` is nil.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: NodeId,
    prev: NodeId,
}

const UNLINKED: Link = Link { next: NodeId::NIL, prev: NodeId::NIL };

/// Links in pieces: one long vector would double, and keep its former places.
#[derive(Debug, Default)]
struct Links(Vec<Box<[Link; LINKS]>>);

impl Links {
    fn at(&self, id: NodeId) -> Link {
        self.0[id.0 as usize / LINKS][id.0 as usize % LINKS]
    }

    fn at_mut(&mut self, id: NodeId) -> &mut Link {
        &mut self.0[id.0 as usize / LINKS][id.0 as usize % LINKS]
    }
}

/// All znodes of a tree.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Chunks,
    links: Links,
    /// Ids from here on were never used.
    fresh: u32,
    free: Vec<NodeId>,
    live: usize,
    scratch: Vec<u8>,
    /// An image that is on its way.
    gathering: Option<Box<Gathering>>,
}

impl Arena {
    /// Live znodes.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    pub(crate) const fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// Whether there is a znode `id`.
    pub(crate) fn is_live(&self, id: NodeId) -> bool {
        self.chunks.get(id).is_some()
    }

    /// The block of a live znode.
    pub(crate) fn get(&self, id: NodeId) -> &Block {
        self.chunks.get(id).expect("an id that is referred to is live")
    }

    /// Whether a live znode stands at `path`: its name and those of its ancestors, from the end.
    pub(crate) fn is_at(&self, id: NodeId, path: &str) -> bool {
        let mut rest = path.as_bytes();
        let mut at = id;
        while at != NodeId::ROOT {
            let block = self.get(at);
            let Some(before) = rest.strip_suffix(block.name_bytes()) else { return false };
            let Some(before) = before.strip_suffix(b"/") else { return false };
            rest = before;
            at = block.parent();
        }
        rest.is_empty()
    }

    /// Touches the blocks of these znodes, as far as they are live: a few, so that the processor fetches all at a time.
    pub(crate) fn look_at(&self, ids: impl IntoIterator<Item = NodeId>) {
        let blocks: SmallVec<[&Block; FORESEEN]> = ids.into_iter().filter_map(|id| self.chunks.get(id)).collect();
        std::hint::black_box(blocks.into_iter().fold(0, |seen, block| seen ^ block.look()));
    }

    /// The id that the next znode gets.
    pub(crate) fn next_id(&self) -> NodeId {
        self.free.last().copied().unwrap_or(NodeId(self.fresh))
    }

    /// Stores a znode. It is not yet among its parent's children.
    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        name: &str,
        acl: AclKey,
        fields: &Fields,
        data: Option<&[u8]>,
    ) -> NodeId {
        let block = encode(&mut self.scratch, parent, name, acl, fields, data);
        self.put(block)
    }

    /// [`Self::insert`] of a block that was [loose](Block::loose).
    pub(crate) fn insert_loose(&mut self, mut block: Block, parent: NodeId, acl: AclKey) -> NodeId {
        let bytes = Arc::get_mut(&mut block.0).filter(|_| !is_wide(acl));
        if let Some(bytes) = bytes {
            bytes[PARENT_AT..SHARE_AT].copy_from_slice(&parent.0.to_le_bytes());
            bytes[ACL_AT..ACL_AT + 2].copy_from_slice(&acl.to_bits().to_le_bytes()[..2]);
        } else {
            block = encode(&mut self.scratch, parent, block.name(), acl, &block.fields(), block.data());
        }
        self.put(block)
    }

    fn put(&mut self, block: Block) -> NodeId {
        let id = self.free.pop().unwrap_or_else(|| {
            let id = NodeId(self.fresh);
            assert!(id != NodeId::NIL, "a tree has fewer znodes than ids");
            self.fresh += 1;
            if id.0 as usize / LINKS == self.links.0.len() {
                self.links.0.push(Box::new([UNLINKED; LINKS]));
            }
            id
        });
        let (chunk, _) = id.place();
        if chunk == self.chunks.0.len() {
            self.chunks.0.push(Arc::new(Chunk::EMPTY));
        }
        let slot = self.slot(id);
        assert!(slot.is_none(), "a free id has no block");
        *slot = Some(block);
        self.live += 1;
        id
    }

    /// Frees a znode without children that is no longer among its parent's.
    pub(crate) fn remove(&mut self, id: NodeId) {
        assert!(self.get(id).child_count() == 0, "a znode with children is not freed");
        *self.slot(id) = None;
        self.live -= 1;
        *self.links.at_mut(id) = UNLINKED;
        self.free.push(id);
    }

    /// Replaces the fields. In place when the block has room and no image holds it.
    pub(crate) fn set_fields(&mut self, id: NodeId, fields: &Fields) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let block = self.block_mut(id);
        let (full, at) = (block.shape() == Shape::Full, block.stat_at());
        if let Some(bytes) = Arc::get_mut(&mut block.0).filter(|_| full) {
            bytes[SHARE_AT..ACL_AT].copy_from_slice(&fields.share.to_le_bytes());
            bytes[at..at + FULL_LEN].copy_from_slice(&fields.full());
        } else {
            *block = encode(&mut scratch, block.parent(), block.name(), block.acl(), fields, block.data());
        }
        self.scratch = scratch;
    }

    /// Replaces fields and data.
    pub(crate) fn set_data(&mut self, id: NodeId, fields: &Fields, data: Option<&[u8]>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let block = self.block_mut(id);
        let (at, start) = (block.stat_at(), block.name_range().end);
        let in_place = block.shape() == Shape::Full
            && (block.0[0] & NULL_DATA == 0) == data.is_some()
            && block.len() - start == data.unwrap_or_default().len();
        if let Some(bytes) = Arc::get_mut(&mut block.0).filter(|_| in_place) {
            bytes[SHARE_AT..ACL_AT].copy_from_slice(&fields.share.to_le_bytes());
            bytes[at..at + FULL_LEN].copy_from_slice(&fields.full());
            bytes[start..].copy_from_slice(data.unwrap_or_default());
        } else {
            *block = encode(&mut scratch, block.parent(), block.name(), block.acl(), fields, data);
        }
        self.scratch = scratch;
    }

    /// Replaces the ACL key.
    pub(crate) fn set_acl(&mut self, id: NodeId, acl: AclKey) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let block = self.block_mut(id);
        let width = Block::name_len_at(block.0[0]) - ACL_AT;
        let fits = (width == 4) == is_wide(acl);
        if let Some(bytes) = Arc::get_mut(&mut block.0).filter(|_| fits) {
            bytes[ACL_AT..ACL_AT + width].copy_from_slice(&acl.to_bits().to_le_bytes()[..width]);
        } else {
            *block = encode(&mut scratch, block.parent(), block.name(), acl, &block.fields(), block.data());
        }
        self.scratch = scratch;
    }

    /// Appends `child` to the children of `parent`.
    pub(crate) fn append(&mut self, parent: NodeId, child: NodeId) {
        let mut fields = self.get(parent).fields();
        self.link(&mut fields, child);
        self.set_fields(parent, &fields);
    }

    /// Puts `child` behind the children that `fields` (of its parent) describes. The caller stores the fields.
    pub(crate) fn link(&mut self, fields: &mut Fields, child: NodeId) {
        let first = fields.first_child;
        if first == NodeId::NIL {
            fields.first_child = child;
            *self.links.at_mut(child) = Link { next: NodeId::NIL, prev: child };
        } else {
            let last = self.links.at(first).prev;
            self.links.at_mut(last).next = child;
            *self.links.at_mut(child) = Link { next: NodeId::NIL, prev: last };
            self.links.at_mut(first).prev = child;
        }
        fields.child_count += 1;
    }

    /// Takes `child` from the children that `fields` (of its parent) describes. The caller stores the
    /// fields.
    pub(crate) fn unlink(&mut self, fields: &mut Fields, child: NodeId) {
        let Link { next, prev } = self.links.at(child);
        if fields.first_child == child {
            fields.first_child = next;
        } else {
            self.links.at_mut(prev).next = next;
        }
        if next != NodeId::NIL {
            self.links.at_mut(next).prev = prev;
        } else if fields.first_child != NodeId::NIL {
            self.links.at_mut(fields.first_child).prev = prev;
        }
        fields.child_count = fields.child_count.checked_sub(1).expect("a parent counts its children");
        assert!((fields.child_count == 0) == (fields.first_child == NodeId::NIL), "count and list of children agree");
    }

    /// Children in the order of their creation.
    pub(crate) fn children(&self, id: NodeId) -> Children<'_> {
        Children { arena: self, next: self.get(id).first_child() }
    }

    /// An image of the znodes as they are now begins, in place of one that is on its way.
    pub(crate) fn begin_gathering(&mut self) {
        self.gathering = Some(Box::new(Gathering::new(self.fresh)));
    }

    /// Gathers so many more ids of the image that is on its way, and returns its chunks once it is whole.
    pub(crate) fn gather(&mut self, ids: u32) -> Option<Chunks> {
        let whole = self.gathering.as_mut()?.go_on(&self.chunks, ids);
        if whole { self.gathering.take().map(|gathering| gathering.into_chunks()) } else { None }
    }

    fn slot(&mut self, id: NodeId) -> &mut Option<Block> {
        if let Some(gathering) = &mut self.gathering {
            gathering.keep(id, &self.chunks);
        }
        let (chunk, slot) = id.place();
        &mut Arc::make_mut(&mut self.chunks.0[chunk]).0[slot]
    }

    fn block_mut(&mut self, id: NodeId) -> &mut Block {
        self.slot(id).as_mut().expect("an id that is referred to is live")
    }
}

/// See [`Arena::children`].
pub(crate) struct Children<'a> {
    arena: &'a Arena,
    next: NodeId,
}

impl Iterator for Children<'_> {
    type Item = NodeId;
    fn next(&mut self) -> Option<NodeId> {
        let id = self.next;
        if id == NodeId::NIL {
            return None;
        }
        self.next = self.arena.links.at(id).next;
        Some(id)
    }
}

fn is_wide(acl: AclKey) -> bool {
    u16::try_from(acl.to_bits()).is_err()
}

fn encode(
    scratch: &mut Vec<u8>,
    parent: NodeId,
    name: &str,
    acl: AclKey,
    fields: &Fields,
    data: Option<&[u8]>,
) -> Block {
    let shape = Shape::of(fields);
    let len = u32::try_from(name.len()).expect("a name is shorter than a frame").to_le_bytes();
    let long = name.len() > usize::from(u8::MAX);
    let mut flags = shape.bits();
    flags |= if data.is_none() { NULL_DATA } else { 0 };
    flags |= if long { LONG_NAME } else { 0 };
    flags |= if is_wide(acl) { WIDE_ACL } else { 0 };
    scratch.clear();
    scratch.push(flags);
    scratch.extend_from_slice(&parent.0.to_le_bytes());
    scratch.extend_from_slice(&fields.share.to_le_bytes());
    scratch.extend_from_slice(&acl.to_bits().to_le_bytes()[..if is_wide(acl) { 4 } else { 2 }]);
    scratch.extend_from_slice(&len[..if long { 4 } else { 1 }]);
    fields.put(shape, scratch);
    scratch.extend_from_slice(name.as_bytes());
    scratch.extend_from_slice(data.unwrap_or_default());
    let block = Block(Arc::from(&scratch[..]));
    if scratch.capacity() > SCRATCH_MAX {
        *scratch = Vec::new();
    }
    block
}
