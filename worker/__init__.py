"""The worker: a RunPod job comes in, and speech goes out.

Packages, from the platform down to the model:

    serve       the start, its checks, RunPod's handler, progress and shutdown
    job         the stages of one job: sentences, retakes, the stream, the answer and its record
    voices      the voice of a job; the built-in and the saved voices, and their caches
    api         the request and the response
    subtitles   captions of the words, and their file formats
    timing      the time of each word, by forced alignment
    storage     the bucket, or the local folder in its place
    net         downloads of URLs from strangers
    audio       waveforms, audio files and the spool
    speech      the engine: the batch, the language model (lm), the codec, kernels in C (native)
    text        sentences, words, and how a written number is spoken

Words:

    sentence         a piece of the text that the model speaks at once
    line             a sentence as it is written, and as it is said where that differs
    sequence         the token ids of one sentence, or of a voice's design, in the model's batch
    take             one attempt at a sentence; a bad one is followed by another, a retake
    segment          a sentence within the whole audio; in a streamed job it has a file of its own
    voice            whose speech it is: global tokens and, of a clone, the reference's tokens
    reference        a recording whose voice is cloned, best with its transcript
    designed voice   a voice that the model makes up from a style: gender, pitch and speed
    built-in voice   a name that every worker knows, for a designed or a saved voice
    semantic tokens  what is said, 50 a second
    global tokens    who says it, the same number for every voice
    spool            the file in which a job's sentences wait until the whole is written
    components       what is loaded once and serves all jobs
    answer record    what is kept of an answered job, so that a second delivery is answered alike
"""
