/** Whether every query may call a function: it reads its arguments and nothing else, and costs what they cost. */
export function isHarmlessFunction(name: string): boolean {
  const lower = name.toLowerCase();
  return SCALARS.has(lower) || TYPES.has(lower) || AGGREGATES.has(baseOf(lower));
}

/** An aggregate function without its combinators: `sumIf` and `sumArrayOrNull` are `sum`. */
function baseOf(lower: string): string {
  for (let base = lower; ; ) {
    const shorter = base.replace(
      /(?:if|array|map|simplestate|state|merge|foreach|distinct|ordefault|ornull|resample|argmin|argmax)$/,
      '',
    );
    if (AGGREGATES.has(base) || shorter === base) return base;
    base = shorter;
  }
}

const AGGREGATES = words(`
  count sum avg min max any anylast argmin argmax stddevpop stddevsamp varpop varsamp covarpop covarsamp corr
  grouparray groupuniqarray grouparraysample grouparraymovingsum grouparraymovingavg groupbitand groupbitor groupbitxor
  uniq uniqexact uniqcombined uniqcombined64 uniqhll12 uniqtheta quantile quantiles quantileexact quantilesexact
  quantiletiming quantilestiming quantiletdigest quantilestdigest quantiledeterministic median medianexact
  topk topkweighted sumwithoverflow sumkahan summap minmap maxmap skewpop skewsamp kurtpop kurtsamp entropy
  simplelinearregression windowfunnel retention sequencematch sequencecount histogram deltasum deltasumtimestamp
  boundingratio avgweighted first_value last_value rank dense_rank row_number lag lead laginframe leadinframe ntile
  percent_rank cume_dist nth_value exponentialmovingaverage intervallengthsum mannwhitneyutest studentttest welchttest
`);

const SCALARS = words(`
  abs negate plus minus multiply divide intdiv intdivorzero modulo positivemodulo gcd lcm exp log ln exp2 log2 exp10
  log10 log1p sqrt cbrt erf erfc sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh hypot pow power
  sign pi e floor ceil ceiling trunc truncate round roundbankers rounddown roundtoexp2 roundduration roundage degrees
  radians factorial max2 min2 greatest least width_bucket
  equals notequals less greater lessorequals greaterorequals and or not xor if multiif coalesce ifnull nullif
  isnull isnotnull iszeroornull assumenotnull tonullable isnan isinfinite isfinite ifnotfinite
  bitand bitor bitxor bitnot bitshiftleft bitshiftright bitcount bittest
  length empty notempty lengthutf8 char_length lower upper lowerutf8 upperutf8 lcase ucase reverse reverseutf8 concat
  concatwithseparator substring substr mid substringutf8 left right leftpad rightpad repeat space trim ltrim rtrim
  trimboth trimleft trimright position positioncaseinsensitive positionutf8 locate multisearchany
  multisearchanycaseinsensitive multisearchfirstposition match multimatchany extract extractall extractallgroups like
  notlike ilike replace replaceone replaceall replaceregexpone replaceregexpall regexpquotemeta startswith endswith
  splitbychar splitbystring splitbyregexp splitbywhitespace arraystringconcat format ascii char hex unhex bin unbin
  base64encode base64decode urlencode encodeurlcomponent decodeurlcomponent countsubstrings ngrams tokens levenshteindistance
  domain domainwithoutwww topleveldomain path pathfull protocol querystring fragment port extracturlparameter
  cutquerystring cutwww normalizequery
  now now64 today yesterday timeslot timeslots toyear toquarter tomonth todayofyear todayofmonth todayofweek tohour
  tominute tosecond tounixtimestamp tounixtimestamp64milli fromunixtimestamp fromunixtimestamp64milli tostartofyear
  tostartofquarter tostartofmonth tostartofweek tomonday tostartofday tostartofhour tostartofminute tostartofsecond
  tostartoffiveminutes tostartoftenminutes tostartoffifteenminutes tostartofinterval totime toyyyymm toyyyymmdd
  toyyyymmddhhmmss toisoyear toisoweek toweek datediff date_diff dateadd date_add datesub date_sub datetrunc date_trunc
  adddays addhours addminutes addmonths addquarters addseconds addweeks addyears subtractdays subtracthours
  subtractminutes subtractmonths subtractseconds subtractweeks subtractyears formatdatetime parsedatetime
  parsedatetimebesteffort parsedatetimebesteffortornull parsedatetimebesteffortorzero totimezone timezone monthname
  age tolastdayofmonth tointervalsecond tointervalminute tointervalhour tointervalday tointervalweek tointervalmonth
  toint8 toint16 toint32 toint64 toint128 toint256 touint8 touint16 touint32 touint64 touint128 touint256 tofloat32
  tofloat64 todate todate32 todatetime todatetime64 tostring tofixedstring todecimal32 todecimal64 todecimal128
  touuid toint32ornull toint32orzero toint64ornull toint64orzero touint64ornull touint64orzero tofloat64ornull
  tofloat64orzero todateornull todateorzero todatetimeornull todatetimeorzero tostringcuttozero tolowcardinality
  reinterpretasuint64 cast accuratecast accuratecastornull totypename
  array range arrayconcat arrayelement has hasall hasany hassubstr indexof countequal arraypushback arraypushfront
  arraypopback arraypopfront arrayslice arraysort arrayreversesort arrayuniq arraydistinct arrayintersect arrayreduce
  arrayreverse arrayflatten arraycompact arrayzip arraymap arrayfilter arraycount arraysum arrayavg arraymin arraymax
  arrayexists arrayall arrayfirst arraylast arrayfirstindex arraycumsum arraydifference arrayjoin arrayresize
  arrayenumerate arrayenumerateuniq arrayfill arraysplit arrayproduct emptyarraystring
  tuple tupleelement untuple map mapkeys mapvalues mapcontains mapadd mapfilter mapapply columns
  jsonhas jsonlength jsontype jsonextract jsonextractstring jsonextractint jsonextractuint jsonextractfloat
  jsonextractbool jsonextractraw jsonextractarrayraw jsonextractkeys jsonextractkeysandvalues json_value json_query
  json_exists simplejsonextractstring simplejsonextractint simplejsonextractfloat simplejsonhas visitparamextractstring
  tojsonstring isvalidjson
  cityhash64 siphash64 xxhash32 xxhash64 murmurhash3_32 murmurhash3_64 farmhash64 md5 sha1 sha256 crc32 inthash32
  inthash64 halfmd5
  rand rand64 randuniform generateuuidv4 transform bar formatreadablesize formatreadablequantity
  formatreadabletimedelta ipv4numtostring ipv4stringtonum ipv6numtostring ipv6stringtonum toipv4 toipv6 isipv4string
  isipv6string isipaddressinrange geodistance greatcircledistance geohashencode geohashdecode runningdifference
  neighbor rownumberinallblocks materialize identity grouping topk
`);

/** Names of types, which stand before parentheses in casts. */
const TYPES = words(`
  nullable lowcardinality decimal decimal32 decimal64 decimal128 datetime datetime64 fixedstring enum8 enum16 string
  date date32 uuid ipv4 ipv6 bool boolean int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 time
  varchar char numeric nested
`);

function words(text: string): ReadonlySet<string> {
  return new Set(text.trim().split(/\s+/));
}
